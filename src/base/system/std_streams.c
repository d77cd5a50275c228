/* Owns nothing. Main's thread, before anything is opened. */
#include "base/system/std_streams.h"

#include <fcntl.h>
#include <unistd.h>

/* Output that nobody takes is an error to who prints, but not to who logs. */
void std_streams_open(void) {
    static const int modes[] = {
        [STDIN_FILENO] = O_RDONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)!open("/dev/null", modes[fd]); /* takes the lowest number that is free: fd */
        }
    }
}
