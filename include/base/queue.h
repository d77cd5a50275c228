/* A bounded first-in first-out queue of pointers between threads.
 *
 *   producers --queue_push--> [ capacity ] --queue_pop--> consumers
 *
 * When the queue is full, push returns ERR_FULL at once; the caller decides and counts. Push never
 * blocks. The eventfd is readable while the queue has items, and always after queue_close.
 * Consumers that poll it pop with timeout 0 until ERR_TIMEOUT or ERR_WRONG_STATE. */
#ifndef MQFLEET_BASE_QUEUE_H
#define MQFLEET_BASE_QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct queue;

/* capacity: 1 or more. NULL: out of memory or descriptors. */
struct queue *queue_create(size_t capacity);
void queue_destroy(
    struct queue *queue); /* the caller first frees the items that are still queued */

enum err queue_push(struct queue *queue,
                    void *item) MUST_CHECK; /* ERR_OK, ERR_FULL, or ERR_WRONG_STATE (closed) */
/* Waits up to timeout_ms (0: does not wait). ERR_OK, ERR_TIMEOUT, or ERR_WRONG_STATE: closed and
 * empty. */
enum err queue_pop(struct queue *queue, void **out, int64_t timeout_ms) MUST_CHECK;
/* Rejects further pushes. Consumers get the remaining items, then ERR_WRONG_STATE. */
void queue_close(struct queue *queue);
size_t queue_len(struct queue *queue);
int queue_fd(struct queue *queue);

#endif
