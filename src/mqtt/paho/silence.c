/* Finds connections whose broker has been silent for too long. Worker thread. */
#include <utlist.h>
#include "paho.h"

#define SILENCE_SLACK_MS 1500
#define STALL_GRACE_MS   5000 /* for PINGREQ and its answer, after a stall */

/* Paho gives a connection up 2.5 keepalives after the last packet, we after 2. */
static void paho_silence_check_one(struct engine_connection *connection, int64_t now_ms) {
    int64_t keepalive_ms = (int64_t)connection->open.keepalive_s * 1000;
    if (connection->phase != PAHO_UP || keepalive_ms == 0 || connection->stale ||
        now_ms < connection->check_at_ms) {
        return;
    }
    int64_t left_ms =
        2 * keepalive_ms + SILENCE_SLACK_MS - paho_socket_silent_ms(&connection->socket);
    if (left_ms > 0) {
        connection->check_at_ms = now_ms + left_ms;
        return;
    }
    connection->stale = true;
    struct engine_closed closed = {.error = CLIENT_ERROR_KEEPALIVE_TIMEOUT,
                                   .message = "the broker sent nothing for two keepalive intervals",
                                   .reason_code = -1};
    pthread_mutex_lock(&connection->engine->lock);
    paho_post_closed(connection, &closed);
    pthread_mutex_unlock(&connection->engine->lock);
}

/* While a message is held, Paho sends no PINGREQ, so silence means nothing. */
static bool paho_silence_is_meaningless(struct engine *engine, int64_t now_ms) {
    pthread_mutex_lock(&engine->lock);
    bool stalled = engine->holding_since_ms != 0 || now_ms - engine->held_at_ms < STALL_GRACE_MS;
    pthread_mutex_unlock(&engine->lock);
    return stalled;
}

void paho_silence_check(struct engine *engine, int64_t now_ms) {
    if (paho_silence_is_meaningless(engine, now_ms)) {
        return;
    }
    struct engine_connection *connection;
    DL_FOREACH(engine->connections, connection) {
        paho_silence_check_one(connection, now_ms);
    }
}
