/* Follows the file that the sink `file` writes, woken by inotify, and counts the lines with their
 * delay: from the load's stamp until the line could be read. The peers' commands; one thread.
 * `mark` empties the file, which is when nothing is being written. */
#include "peer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>

#define BUFFER_LEN (8u << 20)

static struct peer_counts counts;
static char buffer[BUFFER_LEN + 1];
static size_t buffered;

static void count_lines(void) {
    char *line = buffer, *end;
    while ((end = memchr(line, '\n', buffered - (size_t)(line - buffer)))) {
        *end = '\0';
        char *stamp = strstr(line, "\"t=");
        if (stamp) {
            peer_received(&counts, (uint8_t *)stamp + 1, strlen(stamp + 1));
        }
        line = end + 1;
    }
    buffered -= (size_t)(line - buffer);
    memmove(buffer, line, buffered);
}

static void read_more(int fd) {
    ssize_t n;
    while ((n = read(fd, buffer + buffered, BUFFER_LEN - buffered)) > 0) {
        buffered += (size_t)n;
        count_lines();
    }
}

int main(int argc, char **argv) {
    struct peer_options options = peer_parse(argc, argv);
    char events[4096];
    int fd = open(options.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0 || inotify_add_watch(notify_fd, options.path, IN_MODIFY) < 0) {
        peer_die(options.path);
    }
    struct pollfd polled[] = {{STDIN_FILENO, POLLIN, 0}, {notify_fd, POLLIN, 0}};
    peer_answer("{\"ready\":true}");
    for (;;) {
        poll(polled, 2, -1);
        if (polled[1].revents) {
            while (read(notify_fd, events, sizeof events) > 0) {
            }
            read_more(fd);
        }
        if (polled[0].revents) {
            read_more(fd);
            if (lseek(fd, 0, SEEK_CUR) > 0 && buffered == 0 && ftruncate(fd, 0) == 0) {
                lseek(fd, 0, SEEK_SET);
            }
            (void)peer_command(&counts);
        }
    }
}
