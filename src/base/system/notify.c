/* Owns the socket to the service manager. Any thread after notify_open.
 *
 * The protocol is implemented here instead of with libsystemd. It is stable, needs only a few
 * lines, and the library would be one more package on every machine, also on those without systemd.
 */
#include "base/system/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/telemetry/log.h"

#define MESSAGE_LEN 1024
#define WAIT_MS     500

static int notify_fd = -1;
static struct sockaddr_un address;
static socklen_t address_len;
static int64_t watchdog_ms;

/* "/path", or "@name" in the abstract namespace, whose first byte is NUL. */
static bool notify_set_address(const char *path) {
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len >= sizeof(address.sun_path)) {
        return false;
    }
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

/* Twice within the timeout of the manager, as sd_watchdog_enabled(3) advises. */
static int64_t notify_read_watchdog_period_ms(void) {
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    int64_t wait_ms = usec ? strtoll(usec, NULL, 10) / 1000 : 0;
    bool mine = !pid || strtoll(pid, NULL, 10) == getpid();
    return mine && wait_ms > 0 ? wait_ms / 2 : 0;
}

void notify_open(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (path && notify_set_address(path)) {
        struct timeval wait = {.tv_usec = WAIT_MS * 1000};
        notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (notify_fd >= 0 &&
            setsockopt(notify_fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0) {
            log_event(LOG_WARN, "notify_socket_unusable", KS("error", strerrordesc_np(errno)));
        }
        watchdog_ms = notify_read_watchdog_period_ms();
    } else if (path) {
        log_event(LOG_WARN, "notify_socket_unusable", KS("path", path));
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

static void notify_send_message(int flags, const char *format, va_list arguments) {
    char message[MESSAGE_LEN];
    if (notify_fd < 0) {
        return;
    }
    int len = vsnprintf(message, sizeof(message), format, arguments);
    len = len < (int)sizeof(message) ? len : (int)sizeof(message) - 1;
    /* A manager that does not read is no reason to stop. */
    (void)!sendto(notify_fd, message, (size_t)len, MSG_NOSIGNAL | flags,
                  (struct sockaddr *)&address, address_len);
}

void notify_send(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    notify_send_message(0, format, arguments);
    va_end(arguments);
}

void notify_try_send(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    notify_send_message(MSG_DONTWAIT, format, arguments);
    va_end(arguments);
}

int64_t notify_watchdog_ms(void) {
    return watchdog_ms;
}
