#include "doubles/queue_double.h"

struct queue_double queue_double;

/* The linker (--wrap) sends callers of message_queue_put to __wrap_message_queue_put. */
enum err __wrap_message_queue_put(struct message_queue *queue, struct message *message,
                                  struct receipt *receipt);
enum err __real_message_queue_put(struct message_queue *queue, struct message *message,
                                  struct receipt *receipt);
bool __wrap_message_queue_has_room(const struct message_queue *queue);
bool __real_message_queue_has_room(const struct message_queue *queue);

enum err __wrap_message_queue_put(struct message_queue *queue, struct message *message,
                                  struct receipt *receipt) {
    return queue_double.put ? queue_double.put(queue, message, receipt)
                            : __real_message_queue_put(queue, message, receipt);
}

bool __wrap_message_queue_has_room(const struct message_queue *queue) {
    return queue_double.has_room ? queue_double.has_room(queue)
                                 : __real_message_queue_has_room(queue);
}
