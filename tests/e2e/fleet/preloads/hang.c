/* Preloaded into a node by the tests: threads named E2E_HANG_THREAD hang for as long as the file
 * E2E_HANG_FILE is there, wherever they next wait. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static void hang(void) {
    char name[16] = "";
    const char *wanted = getenv("E2E_HANG_THREAD"), *file = getenv("E2E_HANG_FILE");
    pthread_getname_np(pthread_self(), name, sizeof(name));
    while (wanted && file && strcmp(name, wanted) == 0 && access(file, F_OK) == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

int epoll_wait(int fd, struct epoll_event *events, int events_max, int timeout_ms) {
    static int (*next)(int, struct epoll_event *, int, int);
    if (!next) {
        next = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    }
    hang();
    return next(fd, events, events_max, timeout_ms);
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
    static int (*next)(struct pollfd *, nfds_t, int);
    if (!next) {
        next = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
    }
    hang();
    return next(fds, n, timeout_ms);
}
