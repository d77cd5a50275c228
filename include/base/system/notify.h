/* Reports the state of the process to the service manager with systemd's sd_notify(3) protocol: one
 * datagram to the socket in NOTIFY_SOCKET. Without that variable all functions do nothing. */
#ifndef MQFLEET_SYSTEM_NOTIFY_H
#define MQFLEET_SYSTEM_NOTIFY_H

#include <stdint.h>

/* Removes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment, so that child
 * processes do not inherit them. Call before other threads start. */
void notify_open(void);
/* Sends lines such as "READY=1"; any thread. Waits up to half a second if the socket is full. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For messages that are repeated anyway, "WATCHDOG=1" and "STATUS=...". Never waits; drops the
 * message if the socket is full. */
void notify_try_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The period of "WATCHDOG=1"; 0: the watchdog is disabled. */
int64_t notify_watchdog_ms(void);

#endif
