/* Owns the sockets of a connection whose broker has several addresses, until TCP has connected to
 * one (RFC 8305 section 5). Worker thread. The other sockets are closed before TLS or MQTT begins.
 *
 *   first address --RACE_DELAY_MS, or a failure--> second as well --> ... --connected--> stream
 *
 * Each further socket needs the worker's permission, because the worker bounds their number.
 * Without it, the socket that has been connecting for longest is closed one delay later. So an
 * address that answers is reached even if all places are taken by clients that wait for one that
 * does not.
 *
 * The first address is the one of the last connection. If it refuses while others do not answer, it
 * is tried again: perhaps the broker has only that one and is restarting. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "stream_fault.h"
#include "mqtt/reactor/reactor.h"

#define RACE_DELAY_MS 250
#define RACE_AGAIN_MS 500 /* and twice as long each time */
#define RACE_WHY_LEN  80

enum race_entry_state { RACE_UNTRIED, RACE_CONNECTING, RACE_FAILED, RACE_GIVEN_UP };

struct race_entry {
    int fd; /* CONNECTING */
    uint8_t state;
    int64_t begun_at_ms;
    char why[RACE_WHY_LEN]; /* FAILED */
};

struct race {
    struct race *prev, *next; /* in engine->races, while in_list */
    struct engine_connection *connection;
    bool in_list;
    bool postponed;            /* once, for lack of permission */
    size_t begun;              /* how many addresses are, or were, tried */
    size_t open;               /* sockets */
    size_t allowed;            /* sockets besides the first, to be returned */
    int64_t due_ms;            /* when the next address is tried */
    int64_t again_ms;          /* delay after which the first is tried again */
    bool refused;              /* the first one refused */
    struct stream_fault fault; /* the latest */
    enum client_error error;   /* for all addresses; a missing route is the least specific */
    struct address_list addresses;
    struct race_entry entries[ADDRESS_LIST_MAX];
};

/* ---- list, sorted because the delay is always the same ---- */

static void race_unlink(struct race *race) {
    if (race->in_list) {
        DL_DELETE(race->connection->engine->races, race);
        race->in_list = false;
    }
}

static void race_wait(struct race *race) {
    race_unlink(race);
    if (race->begun < race->addresses.count || race->refused) {
        race->due_ms = clock_ms() + RACE_DELAY_MS;
        DL_APPEND(race->connection->engine->races, race);
        race->in_list = true;
    }
}

int64_t race_wait_ms(const struct engine *engine, int64_t wait_ms_max) {
    int64_t left_ms = engine->races->due_ms - clock_ms();
    return left_ms <= 0 ? 0 : left_ms < wait_ms_max ? left_ms : wait_ms_max;
}

/* ---- sockets ---- */

static void race_return_sockets(struct race *race) {
    const struct engine_connection *connection = race->connection;
    while (race->allowed > 0 && race->allowed >= race->open) {
        race->allowed--;
        connection->engine->events->socket_done(connection->session->client);
    }
}

/* Not left to close(): a process that was just forked may hold the socket a moment longer. */
static void race_close(struct race *race, struct race_entry *entry, enum race_entry_state state) {
    epoll_ctl(race->connection->engine->epoll_fd, EPOLL_CTL_DEL, entry->fd, NULL);
    close(entry->fd);
    entry->fd = -1;
    entry->state = (uint8_t)state;
    race->open--;
    race_return_sockets(race);
}

static void race_note_failure(struct race *race, struct race_entry *entry) {
    entry->state = RACE_FAILED;
    race->refused |= entry == race->entries && race->fault.error == CLIENT_ERROR_CONNECTION_REFUSED;
    if (race->error == CLIENT_ERROR_NONE || race->error == CLIENT_ERROR_NETWORK_UNREACHABLE) {
        race->error = race->fault.error;
    }
    snprintf(entry->why, sizeof(entry->why), "%.79s", race->fault.message);
}

static void race_try(struct race *race, size_t i) {
    struct engine_connection *connection = race->connection;
    struct engine *engine = connection->engine;
    struct race_entry *entry = &race->entries[i];
    const union socket_address *address = &race->addresses.items[i];
    race->begun = i < race->begun ? race->begun : i + 1;
    race->postponed = false;
    race->refused = race->refused && i > 0;
    entry->begun_at_ms = clock_ms();
    if (stream_connect(&entry->fd, &address->any, socket_address_len(address),
                       connection_source_address(engine, address->any.sa_family),
                       &race->fault) != ERR_OK) {
        race_note_failure(race, entry);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, entry->fd, &event);
    entry->state = RACE_CONNECTING;
    race->open++;
}

/* ---- next address ---- */

/* Gets permission for one more socket. Without it, closes the oldest if it has had enough time. */
static bool race_make_room(struct race *race) {
    const struct engine_connection *connection = race->connection;
    if (race->open == 0) {
        return true;
    }
    if (connection->engine->events->may_connect(connection->session->client)) {
        race->allowed++;
        return true;
    }
    if (!race->postponed) {
        race->postponed = true;
        return false;
    }
    size_t oldest = 0;
    while (race->entries[oldest].state != RACE_CONNECTING) {
        oldest++; /* terminates: one is open */
    }
    race_close(race, &race->entries[oldest], RACE_GIVEN_UP);
    return race->open == 0 || race_make_room(race);
}

/* The next address to try: one that was not tried yet, and finally those whose sockets were closed
 * for others. */
static size_t race_next(const struct race *race) {
    size_t i = race->begun;
    if (i == race->addresses.count && race->open == 0) {
        for (i = 0; i < race->begun && race->entries[i].state != RACE_GIVEN_UP;) {
            i++;
        }
    }
    return i;
}

/* Tries the first one again, if it is due and permitted. */
static void race_try_again(struct race *race) {
    const struct engine_connection *connection = race->connection;
    if (!race->refused || race->open == 0 ||
        clock_ms() - race->entries[0].begun_at_ms < race->again_ms ||
        !connection->engine->events->may_connect(connection->session->client)) {
        return;
    }
    race->allowed++;
    race->again_ms *= 2;
    race_try(race, 0);
    race_return_sockets(race);
}

/* Tries addresses until a new one is connecting. Terminates: each fails once. */
static void race_go_on(struct race *race) {
    bool trying = false;
    for (size_t i; !trying && (i = race_next(race)) < race->addresses.count;) {
        if (!race_make_room(race)) {
            break;
        }
        race_try(race, i);
        trying = race->entries[i].state == RACE_CONNECTING;
        race_return_sockets(race);
    }
    race_wait(race);
}

/* ---- end ---- */

void race_describe(const struct race *race, char out[RACE_TEXT_LEN]) {
    int64_t now_ms = clock_ms();
    size_t at = 0;
    for (size_t i = 0; i < race->addresses.count && at < RACE_TEXT_LEN - 1; i++) {
        const struct race_entry *entry = &race->entries[i];
        char address[SOCKET_ADDRESS_TEXT_LEN], why[RACE_WHY_LEN];
        socket_address_text(&race->addresses.items[i], address);
        if (entry->state == RACE_UNTRIED) {
            snprintf(why, sizeof(why), "not tried");
        } else if (entry->state == RACE_FAILED) {
            snprintf(why, sizeof(why), "%s", entry->why);
        } else {
            snprintf(why, sizeof(why), "no answer within %.1f s",
                     (double)(now_ms - entry->begun_at_ms) / 1000.0);
        }
        int n = snprintf(out + at, RACE_TEXT_LEN - at, "%s%s: %s", i > 0 ? "; " : "", address, why);
        at += n > 0 ? (size_t)n : 0;
    }
}

static void race_lose(struct race *race) {
    char text[RACE_TEXT_LEN];
    race_describe(race, text);
    connection_abort(
        race->connection,
        &(struct engine_closed){.error = race->error, .message = text, .reason_code = -1});
}

void race_start_due(struct engine *engine) {
    int64_t now_ms = clock_ms();
    while (engine->races && engine->races->due_ms <= now_ms) {
        struct race *race = engine->races;
        race_try_again(race);
        race_go_on(race); /* which moves it behind the others, or removes it */
        if (race->open == 0) {
            race_lose(race);
        }
    }
}

void race_end(struct engine_connection *connection, int kept) {
    struct race *race = connection->race;
    race_unlink(race);
    for (size_t i = 0; i < race->begun; i++) {
        struct race_entry *entry = &race->entries[i];
        if (entry->state == RACE_CONNECTING && entry->fd != kept) {
            race_close(race, entry, RACE_GIVEN_UP);
        }
    }
    connection->race = NULL;
    free(race);
}

static void race_win(struct race *race, size_t i) {
    struct engine_connection *connection = race->connection;
    int fd = race->entries[i].fd;
    connection->address = (int8_t)i;
    connection->epoll_events = EPOLLIN | EPOLLOUT;
    race_end(connection, fd);
    stream_set_fd(&connection->stream, fd);
}

bool race_ready(struct engine_connection *connection) {
    struct race *race = connection->race;
    bool failed = false;
    for (size_t i = 0; i < race->begun; i++) {
        struct race_entry *entry = &race->entries[i];
        if (entry->state != RACE_CONNECTING) {
            continue;
        }
        enum err err = stream_connected(entry->fd, &race->fault);
        if (err == ERR_OK) {
            race_win(race, i);
            return true;
        }
        if (err != ERR_TIMEOUT) {
            race_close(race, entry, RACE_FAILED);
            race_note_failure(race, entry);
            failed = true;
        }
    }
    if (failed) {
        race_go_on(race);
    }
    if (race->open == 0) {
        race_lose(race);
    }
    return false;
}

void race_begin(struct engine_connection *connection, const struct address_list *addresses) {
    struct engine *engine = connection->engine;
    struct stream_fault fault;
    stream_fault_set(&fault, CLIENT_ERROR_OUT_OF_MEMORY);
    struct race *race = calloc(1, sizeof *race);
    if (!race ||
        stream_prepare(&connection->stream, engine->tls, connection->config, &fault) != ERR_OK) {
        free(race);
        connection_lost(connection, &fault);
        return;
    }
    race->connection = connection;
    race->again_ms = RACE_AGAIN_MS;
    race->addresses = *addresses;
    connection->race = race;
    race_go_on(race);
    if (race->open == 0) {
        race_lose(race);
    }
}
