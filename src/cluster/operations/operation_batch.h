/* One batch of an operation: what becomes of each client, and the owners that are asked. The leader
 * thread; the answers of owners arrive on the peer calls thread. */
#ifndef MQFLEET_OPERATIONS_OPERATION_BATCH_H
#define MQFLEET_OPERATIONS_OPERATION_BATCH_H

#include <stdatomic.h>
#include "cluster/operations/operations.h"

struct operation_batch {
    const struct operations_wiring *wiring;
    enum operation_action action;
    int64_t position;
    struct store_client *rows;
    struct operation_change *changes; /* one per row */
    size_t n;
    atomic_size_t pending; /* calls to owners without an answer */
    bool has_later;        /* a client is tried again; set by operation_batch_items */
};

/* Takes over the rows. NULL: out of memory. */
struct operation_batch *operation_batch_create(const struct operations_wiring *wiring,
                                               enum operation_action action, int64_t position,
                                               struct store_client *rows, size_t n);
/* Not while calls are pending. NULL is legal. */
void operation_batch_destroy(struct operation_batch *batch);

/* Asks the owners of all clients whose change is STORE_STEP_DONE. ERR_OK: the changes are final
 * once operation_batch_is_ready. */
enum err operation_batch_ask_owners(struct operation_batch *batch) MUST_CHECK;
bool operation_batch_is_ready(const struct operation_batch *batch);
/* For the commit; items[batch->n] borrow from the batch. */
void operation_batch_items(struct operation_batch *batch, struct store_step_item *items);

#endif
