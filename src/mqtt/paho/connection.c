/* Owns the end of a connection: closed by the worker, or ended by the broker, it is released by
 * Paho before its closed event. Worker thread. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <MQTTAsync.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "paho.h"

#define CLOSES_PER_POLL_MAX 100
#define CLOSE_ACCEPT_MS     2000 /* a held message may still be accepted for this long */

void paho_connection_free(struct engine_connection *connection) {
    paho_close_material(connection);
    paho_socket_end_probe(&connection->socket);
    free(connection->codes);
    free(connection->subscribes);
    free(connection->suspects);
    free(connection->persistence);
    free(connection->host);
    free(connection->id);
    free(connection->client_id);
    free(connection);
}

void paho_connection_end_opening(struct engine_connection *connection) {
    if (connection->phase == PAHO_WAITING || connection->phase == PAHO_OPENING) {
        connection->engine->opening_count--;
    }
    paho_close_material(connection);
    paho_socket_end_probe(&connection->socket);
}

/* Afterwards, the connection gets no more callbacks, because destroy runs under Paho's mutex.
 * Destroy sends DISCONNECT if the connection is up. */
static void paho_connection_release(struct engine_connection *connection) {
    if (connection->handle) {
        paho_call_begin(connection->engine);
        MQTTAsync_destroy(&connection->handle);
        paho_call_end(connection->engine);
        connection->handle = NULL;
    }
    paho_net_end(&connection->socket);
    connection->phase = PAHO_RELEASED;
}

/* Does not wait for Paho's mutex: a callback that holds it may belong to a connection that the
 * worker is also about to close. It is told here to give up; poll() does the rest. */
void paho_connection_close(struct engine_connection *connection, bool with_will) {
    struct engine *engine = connection->engine;
    if (connection->phase >= PAHO_CLOSING) {
        return;
    }
    if (connection->phase == PAHO_WAITING) {
        DL_DELETE2(engine->waiting, connection, step_prev, step_next);
    }
    bool up = connection->phase == PAHO_UP;
    paho_connection_end_opening(connection);
    connection->phase = PAHO_CLOSING;
    paho_hold_give_up(connection, clock_ms() + (with_will ? 0 : CLOSE_ACCEPT_MS));
    paho_net_withdraw(&connection->socket);
    if (with_will || !up) {
        paho_socket_drop(&connection->socket); /* neither DISCONNECT nor CONNECT is sent */
    }
    DL_APPEND2(engine->closing, connection, step_prev, step_next);
    eventfd_write(engine->event_fd, 1);
}

void paho_connection_end(struct engine_connection *connection) {
    paho_connection_end_opening(connection);
    connection->phase = PAHO_ENDED;
    paho_hold_give_up(connection, clock_ms()); /* acknowledgements can no longer be sent */
    DL_APPEND2(connection->engine->closing, connection, step_prev, step_next);
}

/* A destroy would wait until a held message is accepted, so it is put off until then. */
void paho_connection_release_closed(struct engine *engine) {
    static const struct engine_closed by_us = {.error = CLIENT_ERROR_CLOSED_BY_US,
                                               .reason_code = -1};
    for (int i = 0; i < CLOSES_PER_POLL_MAX; i++) {
        struct engine_connection *connection = engine->closing;
        if (!connection || paho_is_stalled(engine)) {
            return;
        }
        DL_DELETE2(engine->closing, connection, step_prev, step_next);
        bool ours = connection->phase == PAHO_CLOSING;
        paho_connection_release(connection);
        pthread_mutex_lock(&engine->lock);
        if (ours) {
            connection->marks &=
                ~(unsigned)PAHO_CLOSED; /* whatever the cause, we closed it first */
            paho_post_closed(connection, &by_us);
        } else {
            paho_post(connection, PAHO_CLOSED);
        }
        pthread_mutex_unlock(&engine->lock);
    }
}
