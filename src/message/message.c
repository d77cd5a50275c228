/* Owns the memory of received messages. Runs on the thread that owns the message.
 *
 *   [ struct message | properties | texts and property values, each with a NUL | payload, NUL ]
 */
#include "message/message.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

#define NUMBERS_PER_BLOCK 1024 /* that a thread takes at once */
#define PROCESS_ID_LEN    16

static char process_id[TEXT_ID_LEN];
static pthread_once_t process_id_once = PTHREAD_ONCE_INIT;

static void message_draw_process_id(void) {
    text_random_id(process_id);
    process_id[PROCESS_ID_LEN] = '\0';
}

const char *message_process_id(void) {
    pthread_once(&process_id_once, message_draw_process_id);
    return process_id;
}

static uint64_t message_next_number(void) {
    static _Atomic uint64_t next_block = 1;
    static _Thread_local uint64_t next, end;
    if (next == end) {
        next = atomic_fetch_add(&next_block, NUMBERS_PER_BLOCK);
        end = next + NUMBERS_PER_BLOCK;
    }
    return next++;
}

static size_t message_texts_size(const struct message *from) {
    size_t size = strlen(from->id) + strlen(from->client_id) + strlen(from->topic) + 3;
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        size += strlen(property->name) + 1 + property->value_len + 1;
        size += property->key ? strlen(property->key) + 1 : 0;
    }
    return size;
}

/* Copies len bytes and a NUL to *end, moves *end behind them, returns their address. */
static char *message_put_bytes(char **end, const void *data, size_t len) {
    char *start = *end;
    if (len > 0) {
        memcpy(start, data, len);
    }
    start[len] = '\0';
    *end = start + len + 1;
    return start;
}

static char *message_put_text(char **end, const char *text) {
    return message_put_bytes(end, text, strlen(text));
}

struct message *message_create(const struct message *from) {
    assert(from->id && from->client_id && from->topic);
    assert(from->payload || from->payload_len == 0);
    size_t properties_size = from->property_count * sizeof(struct message_property);
    size_t size =
        sizeof(struct message) + properties_size + message_texts_size(from) + from->payload_len + 1;
    struct message *message = malloc(size);
    if (!message) {
        return NULL;
    }
    *message = *from;
    message->references = 1;
    message->size = size;
    message->origin = message_origin_retain(from->origin);
    message->rejection = NULL;
    message->number = from->number ? from->number : message_next_number();
    struct message_property *properties = (struct message_property *)(message + 1);
    char *end = (char *)(properties + from->property_count);
    message->id = message_put_text(&end, from->id);
    message->client_id = message_put_text(&end, from->client_id);
    message->topic = message_put_text(&end, from->topic);
    for (size_t i = 0; i < from->property_count; i++) {
        const struct message_property *property = &from->properties[i];
        properties[i].name = message_put_text(&end, property->name);
        properties[i].key = property->key ? message_put_text(&end, property->key) : NULL;
        properties[i].value = message_put_bytes(&end, property->value, property->value_len);
        properties[i].value_len = property->value_len;
    }
    message->properties = from->property_count > 0 ? properties : NULL;
    message->payload = (uint8_t *)message_put_bytes(&end, from->payload, from->payload_len);
    assert(end == (char *)message + size);
    return message;
}

struct message *message_retain(struct message *message) {
    atomic_fetch_add_explicit(&message->references, 1, memory_order_relaxed);
    return message;
}

void message_destroy(struct message *message) {
    if (message && atomic_fetch_sub(&message->references, 1) == 1) {
        message_origin_release(message->origin);
        free(message->rejection);
        free(message);
    }
}
