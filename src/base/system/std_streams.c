/* Opens missing standard streams. Main thread, before any other file is opened. */
#include "base/system/std_streams.h"

#include <fcntl.h>
#include <unistd.h>

/* A write to /dev/null must fail for programs that print, but not for the log. */
void std_streams_open(void) {
    static const int modes[] = {
        [STDIN_FILENO] = O_RDONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)!open("/dev/null", modes[fd]); /* open returns the lowest free descriptor: fd */
        }
    }
}
