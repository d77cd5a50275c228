/* Preloaded into a node by the tests: its disk takes E2E_SYNC_MS milliseconds to sync, so that
 * messages wait for the file sink. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) {
        next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    }
    const char *text = getenv("E2E_SYNC_MS");
    long ms = text ? strtol(text, NULL, 10) : 0;
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
    return next(fd);
}
