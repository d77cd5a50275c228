/* Owns the list of answers between sinks and one engine. The list has no lock: sinks put answers in
 * front, the engine takes them all at once. */
#include "message/receipt.h"

#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool receipts_init(struct receipts *receipts) {
    *receipts = (struct receipts){.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    return receipts->wake_fd >= 0;
}

void receipts_fini(struct receipts *receipts) {
    if (receipts->wake_fd >= 0) {
        close(receipts->wake_fd);
        receipts->wake_fd = -1;
    }
}

void receipt_expect(struct receipt *receipt, unsigned answers) {
    receipt->result = ERR_OK;
    atomic_store_explicit(&receipt->missing, answers, memory_order_relaxed);
}

static void receipt_return(struct receipt *receipt) {
    struct receipts *owner = receipt->owner;
    struct receipt *before = atomic_load_explicit(&owner->answered, memory_order_relaxed);
    do {
        receipt->next = before;
    } while (!atomic_compare_exchange_weak(&owner->answered, &before, receipt));
}

/* With several answers, only a failure is written: sinks may answer at the same time. */
void receipt_answer(struct receipt *receipt, enum err err) {
    unsigned missing = atomic_load_explicit(&receipt->missing, memory_order_relaxed);
    if (missing == 0 || err != ERR_OK) {
        __atomic_store_n(&receipt->result, err, __ATOMIC_RELAXED);
    }
    if (missing == 0 || atomic_fetch_sub(&receipt->missing, 1) == 1) {
        receipt_return(receipt);
    }
}

/* The thread sets `waiting` before it checks the list for the last time. Answers are put on the
 * list before `waiting` is checked here. So at least one side sees the other. */
void receipts_wake(struct receipts *receipts) {
    if (atomic_load(&receipts->waiting) && atomic_load(&receipts->answered) &&
        atomic_exchange(&receipts->waiting, false)) {
        eventfd_write(receipts->wake_fd, 1);
    }
}

struct receipt *receipts_take(struct receipts *receipts) {
    if (!atomic_load_explicit(&receipts->answered, memory_order_relaxed)) {
        return NULL;
    }
    struct receipt *newest = atomic_exchange(&receipts->answered, NULL);
    struct receipt *oldest = NULL;
    while (newest) { /* bounded by the sinks' queues */
        struct receipt *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

bool receipts_begin_wait(struct receipts *receipts) {
    atomic_store(&receipts->waiting, true);
    return atomic_load(&receipts->answered) != NULL;
}

void receipts_end_wait(struct receipts *receipts) {
    atomic_store(&receipts->waiting, false);
}
