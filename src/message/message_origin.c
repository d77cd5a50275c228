/* Owns the memory of an origin: one allocation, the texts behind the labels. */
#include "message/message_origin.h"

#include <stdlib.h>
#include <string.h>

static const char *message_origin_put(char **end, const char *text) {
    size_t size = strlen(text) + 1;
    char *start = memcpy(*end, text, size);
    *end += size;
    return start;
}

struct message_origin *message_origin_create(const char *broker, const struct message_label *labels,
                                             size_t count) {
    size_t size = sizeof(struct message_origin) + count * sizeof *labels + strlen(broker) + 1;
    for (size_t i = 0; i < count; i++) {
        size += strlen(labels[i].name) + strlen(labels[i].value) + 2;
    }
    struct message_origin *origin = malloc(size);
    if (!origin) {
        return NULL;
    }
    origin->references = 1;
    origin->label_count = count;
    char *end = (char *)&origin->labels[count];
    origin->broker = message_origin_put(&end, broker);
    for (size_t i = 0; i < count; i++) {
        origin->labels[i].name = message_origin_put(&end, labels[i].name);
        origin->labels[i].value = message_origin_put(&end, labels[i].value);
    }
    return origin;
}

struct message_origin *message_origin_retain(struct message_origin *origin) {
    if (origin) {
        atomic_fetch_add_explicit(&origin->references, 1, memory_order_relaxed);
    }
    return origin;
}

void message_origin_release(struct message_origin *origin) {
    if (origin && atomic_fetch_sub(&origin->references, 1) == 1) {
        free(origin);
    }
}

const char *message_origin_label(const struct message_origin *origin, const char *name) {
    for (size_t i = 0; origin && i < origin->label_count; i++) {
        if (strcmp(origin->labels[i].name, name) == 0) {
            return origin->labels[i].value;
        }
    }
    return NULL;
}
