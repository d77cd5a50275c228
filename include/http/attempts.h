/* How often each address presented a wrong token lately. A bounded table: under many addresses the
 * one that was quiet for longest is forgotten. Any thread. */
#ifndef MQFLEET_HTTP_ATTEMPTS_H
#define MQFLEET_HTTP_ATTEMPTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ATTEMPTS_ADDRESSES 1024
#define ATTEMPTS_FREE      10 /* wrong tokens in a window that are answered as such */
#define ATTEMPTS_WINDOW_MS 60000

struct attempts;

struct attempts *attempts_create(void); /* NULL: out of memory */
void attempts_destroy(struct attempts *attempts);
/* Notes one from the address (IPv4, or the /64 of IPv6). Returns 0, or how long the address is to
 * wait, in milliseconds: it has used up what is free. */
int64_t attempts_note(struct attempts *attempts, const struct sockaddr *address);

#endif
