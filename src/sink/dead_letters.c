/* Owns the messages that wait for a dead letter sink: a list, the oldest first. */
#include "dead_letters.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"

#define LOG_PERIOD_MS 60000

/* A dead letter begins with the rejection of its message, and is freed with the message. */
struct dead_letter {
    struct rejection rejection; /* must be first */
    struct message_queue_entry entry;
    size_t bytes;
    struct dead_letter *next;
};

void dead_letters_init(struct dead_letters *letters, const char *sink, const char *label,
                       struct message_queue *queue) {
    *letters = (struct dead_letters){.sink = sink, .label = label, .queue = queue};
    letters->end = &letters->first;
    letters->marked_end = &letters->marked;
}

/* At most once a period, however many are rejected; never the payload. */
static void dead_letters_log(struct dead_letters *letters, const struct message *message,
                             const char *reason) {
    int64_t now_ms = clock_ms();
    letters->unlogged++;
    if (letters->next_log_ms > now_ms) {
        return;
    }
    log_event(LOG_WARN, "dead_letter", KS("sink", letters->label), KS("id", message->id),
              KS("topic", message->topic), KS("reason", reason), KI("messages", letters->unlogged));
    letters->unlogged = 0;
    letters->next_log_ms = now_ms + LOG_PERIOD_MS;
}

/* A message that other sinks have too is copied, since only this one rejects it. */
static bool dead_letters_copy_shared(const struct message *message, struct message **copy) {
    bool shared = atomic_load(&message->references) > 1;
    *copy = shared ? message_create(message) : NULL;
    return !shared || *copy;
}

bool dead_letters_mark(struct dead_letters *letters, const struct message *message,
                       const char *reason) {
    struct dead_letter *letter = calloc(1, sizeof *letter);
    if (!letter || !dead_letters_copy_shared(message, &letter->entry.message)) {
        free(letter);
        return false;
    }
    snprintf(letter->rejection.sink, sizeof letter->rejection.sink, "%s", letters->sink);
    snprintf(letter->rejection.reason, sizeof letter->rejection.reason, "%s", reason);
    letter->rejection.rejected_at_ms = clock_wall_ms();
    *letters->marked_end = letter;
    letters->marked_end = &letter->next;
    dead_letters_log(letters, message, reason);
    return true;
}

static void dead_letters_take_one(struct dead_letters *letters, struct dead_letter *letter,
                                  const struct message_queue_entry *entry) {
    struct message *copy = letter->entry.message;
    letter->entry = *entry;
    letter->bytes = entry->message->size;
    letter->next = NULL;
    if (copy) {
        message_destroy(entry->message);
        letter->entry.message = copy;
    }
    letter->entry.message->rejection = &letter->rejection;
    *letters->end = letter;
    letters->end = &letter->next;
}

size_t dead_letters_take(struct dead_letters *letters, const bool *leaves,
                         struct message_queue_entry *entries, size_t n) {
    size_t count = message_queue_hold(letters->queue, leaves, entries, n);
    struct dead_letter *letter = letters->marked;
    for (size_t i = 0; i < count; i++) {
        struct dead_letter *next = letter->next;
        dead_letters_take_one(letters, letter, &entries[i]);
        letter = next;
    }
    assert(!letter);
    letters->marked = NULL;
    letters->marked_end = &letters->marked;
    return count;
}

bool dead_letters_wait(const struct dead_letters *letters) {
    return letters->first != NULL;
}

static void dead_letters_set_first(struct dead_letters *letters, struct dead_letter *letter) {
    letters->first = letter;
    if (!letter) {
        letters->end = &letters->first;
    }
}

/* The message, and with it the letter, may be gone as soon as it is in the other queue. */
static bool dead_letters_move_first(struct dead_letters *letters, struct message_queue *target) {
    struct dead_letter letter = *letters->first;
    enum err err = message_queue_put(target, NULL, letter.entry.message, letter.entry.receipt);
    if (err == ERR_FULL || err == ERR_WRONG_STATE) {
        return false;
    }
    metric_add(METRIC_DROPPED_DEAD_LETTER, err == ERR_OK ? 0 : 1); /* QoS 0 */
    message_queue_release(letters->queue, &letter.entry, letter.bytes);
    dead_letters_set_first(letters, letter.next);
    return true;
}

void dead_letters_move(struct dead_letters *letters) {
    struct message_queue *target = atomic_load(&letters->target);
    bool moved = false;
    while (target && letters->first &&
           dead_letters_move_first(letters, target)) { /* bounded by the queue */
        moved = true;
    }
    if (moved) {
        message_queue_flush(target);
    }
}

size_t dead_letters_cancel(struct dead_letters *letters) {
    size_t count = 0;
    while (letters->first) { /* bounded by the queue */
        struct dead_letter letter = *letters->first;
        struct receipt *receipt = letter.entry.receipt;
        dead_letters_set_first(letters, letter.next);
        message_queue_release(letters->queue, &letter.entry, letter.bytes);
        message_destroy(letter.entry.message);
        if (receipt) {
            struct receipts *owner = receipt->owner;
            receipt_answer(receipt, ERR_CANCELED);
            receipts_wake(owner);
        }
        count++;
    }
    return count;
}
