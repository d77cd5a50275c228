/* Bounds how many requests wait for one thing at once, so that what never answers takes only its
 * share of the threads that wait. Any thread. */
#ifndef MQFLEET_HTTP_GATE_H
#define MQFLEET_HTTP_GATE_H

#include <stdbool.h>
#include <stddef.h>

/* False: `max` have entered for this key and not left, or out of memory. */
bool http_gate_enter(const char *key, size_t max);
void http_gate_leave(const char *key);

#endif
