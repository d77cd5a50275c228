/* The open connections, the one that owes us bytes for longest in front. When there are too many,
 * that one is closed, so that connections which never finish a request cannot shut others out. Any
 * thread. */
#ifndef MQFLEET_HTTP_CROWD_H
#define MQFLEET_HTTP_CROWD_H

#include <stddef.h>

struct crowd;
struct guest; /* one connection */

struct crowd *crowd_create(size_t max);
void crowd_destroy(struct crowd *crowd); /* after all have left */

/* A connection was accepted; may shut another one down. NULL: out of memory, then it is not
 * counted. fd stays the caller's. */
struct guest *crowd_enter(struct crowd *crowd, int fd);
/* Its request is complete: from now on we owe it an answer, and it is not shut down. */
void crowd_served(struct crowd *crowd, struct guest *guest);
/* It has its answer and owes us a request again. */
void crowd_waits(struct crowd *crowd, struct guest *guest);
/* Before fd is closed. */
void crowd_leave(struct crowd *crowd, struct guest *guest);

#endif
