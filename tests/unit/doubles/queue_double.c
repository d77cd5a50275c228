#include "doubles/queue_double.h"

struct queue_double queue_double;

/* The linker (--wrap) sends callers of message_queue_put to __wrap_message_queue_put. */
enum err __wrap_message_queue_put(struct message_queue *queue, struct message_queue_share *share,
                                  struct message *message, struct receipt *receipt);
enum err __real_message_queue_put(struct message_queue *queue, struct message_queue_share *share,
                                  struct message *message, struct receipt *receipt);
bool __wrap_message_queue_has_room(struct message_queue *queue,
                                   const struct message_queue_share *share);
bool __real_message_queue_has_room(struct message_queue *queue,
                                   const struct message_queue_share *share);

enum err __wrap_message_queue_put(struct message_queue *queue, struct message_queue_share *share,
                                  struct message *message, struct receipt *receipt) {
    return queue_double.put ? queue_double.put(queue, message, receipt)
                            : __real_message_queue_put(queue, share, message, receipt);
}

bool __wrap_message_queue_has_room(struct message_queue *queue,
                                   const struct message_queue_share *share) {
    return queue_double.has_room ? queue_double.has_room(queue)
                                 : __real_message_queue_has_room(queue, share);
}
