/* Owns the memory of labels: one allocation, the texts behind the items. */
#include "message/message_labels.h"

#include <stdlib.h>
#include <string.h>

static const char *labels_put(char **end, const char *text) {
    size_t size = strlen(text) + 1;
    char *start = memcpy(*end, text, size);
    *end += size;
    return start;
}

struct message_labels *message_labels_create(const struct message_label *labels, size_t count) {
    size_t size = sizeof(struct message_labels) + count * sizeof *labels;
    for (size_t i = 0; i < count; i++) {
        size += strlen(labels[i].name) + strlen(labels[i].value) + 2;
    }
    struct message_labels *copy = malloc(size);
    if (!copy) {
        return NULL;
    }
    copy->references = 1;
    copy->count = count;
    char *end = (char *)&copy->items[count];
    for (size_t i = 0; i < count; i++) {
        copy->items[i].name = labels_put(&end, labels[i].name);
        copy->items[i].value = labels_put(&end, labels[i].value);
    }
    return copy;
}

struct message_labels *message_labels_retain(struct message_labels *labels) {
    if (labels) {
        atomic_fetch_add_explicit(&labels->references, 1, memory_order_relaxed);
    }
    return labels;
}

void message_labels_release(struct message_labels *labels) {
    if (labels && atomic_fetch_sub(&labels->references, 1) == 1) {
        free(labels);
    }
}
