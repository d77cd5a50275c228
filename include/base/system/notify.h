/* Tells the service manager how the process does: systemd's sd_notify(3) protocol, which is one
 * datagram to the socket named by NOTIFY_SOCKET. Without that variable everything here does
 * nothing. */
#ifndef MQFLEET_SYSTEM_NOTIFY_H
#define MQFLEET_SYSTEM_NOTIFY_H

#include <stdint.h>

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child
 * speaks for this process. Before other threads start. */
void notify_open(void);
/* Lines such as "READY=1"; any thread. Waits up to half a second for room in the socket. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What is said again soon anyway, "WATCHDOG=1" and "STATUS=..."; never waits: lost without room. */
void notify_try_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* How often "WATCHDOG=1" is to be sent; 0: nobody waits for it. */
int64_t notify_watchdog_ms(void);

#endif
