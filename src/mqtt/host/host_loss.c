/* Owns what follows when a connection failed, was lost, or a client's time is over; and the
 * judgement whether somebody else holds its identifier. Host thread only.
 *
 * A broker that speaks MQTT 5 says so (0x8E). Otherwise: a connection that was let in, ended within
 * stable_ms without a word, and that so often in a row, is kicked. Where many clients of a broker
 * went at the same moment the broker is the likelier cause, and such a loss counts a third. It is
 * judged before the next try, when it is known who else was lost. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/metrics.h"
#include "base/text.h"
#include "mqtt/host.h"
#include "mqtt/outcome.h"

#define SUSPICION_ALONE 3
#define SUSPICION_MASS  1

/* ---- conflicts ---- */

static int64_t jittered_ms(int64_t time_ms) {
    return time_ms + text_random_between(0, time_ms / 4);
}

/* For how long it rests at first and at most; the store, which knows of all nodes, doubles it. */
static void ask_for_rest(struct client *client) {
    const struct conf *conf = client->host->conf;
    host_ask_release(client, client->error_code, client->error_message,
                     jittered_ms(conf->conflict_min_ms), jittered_ms(conf->conflict_max_ms));
}

static void enter_conflict(struct client *client, const char *message) {
    bool was_online = client->state == CLIENT_ONLINE;
    host_note_error(client, "taken_over", message);
    host_tear_down(client, false);
    client->suspicion = 0;
    client->early_loss = false;
    if (!host_change(client, CLIENT_EV_TAKEN_OVER, "taken_over")) {
        return;
    }
    metric_add(METRIC_CONFLICTS, 1);
    metric_add(METRIC_LOST_TOLD, was_online);
    ask_for_rest(client);
}

/* True: it is one. */
static bool judge_early_loss(struct client *client) {
    if (!client->early_loss) {
        return false;
    }
    client->early_loss = false;
    bool mass = loss_watch_was_mass(&client->broker->losses, client->loss_window);
    client->suspicion += mass ? SUSPICION_MASS : SUSPICION_ALONE;
    return client->suspicion >= SUSPICION_ALONE * (unsigned)client->host->conf->conflict_losses;
}

/* ---- losses ---- */

static void note_loss(struct client *client, const char *code) {
    int64_t now_ms = clock_ms();
    bool was_online = client->state == CLIENT_ONLINE;
    size_t online_before = client->broker->online + (was_online ? 0 : 1);
    uint64_t window = loss_watch_note(&client->broker->losses, now_ms, online_before);
    bool early = now_ms - client->connack_at_ms < client->host->conf->stable_ms;
    bool ours = client->host->lease_was_valid; /* else another node may rightly have it */
    bool wordless = early && ours && strcmp(code, "connection_lost") == 0;
    if (wordless && client->state == CLIENT_SUBSCRIBING) {
        /* Many brokers refuse a subscription so: evidence of nothing. */
    } else if (wordless) {
        client->early_loss = true;
        client->loss_window = window;
    } else {
        client->early_loss = false;
        client->suspicion = 0;
    }
    if (was_online) {
        metric_add(outcome_of_loss(code), 1);
    }
}

static void lost(struct client *client, const char *code, const char *message) {
    note_loss(client, code);
    if (client->state == CLIENT_SUBSCRIBING) {
        metric_add(outcome_of_connect(code), 1);
    }
    if (client->state == CLIENT_SUBSCRIBING && strcmp(code, "connection_lost") == 0) {
        message = "the broker closed the connection before it acknowledged the subscriptions; "
                  "perhaps it refuses one";
    }
    host_note_error(client, code, message);
    host_tear_down(client, false);
    client->failures++;
    if (host_change(client, CLIENT_EV_LOST, code)) {
        host_schedule(client, host_backoff_ms(client));
    }
}

static void closed_as_told(struct client *client) {
    client->closing = false;
    if (client->state == CLIENT_QUEUED) {
        host_enqueue(client);
    } else if (client->state == CLIENT_CLOSING) {
        host_closed(client);
    }
}

void host_connection_closed(void *context, const struct engine_closed *closed) {
    struct client *client = context;
    client->host->connection_count--;
    client->connection = NULL;
    shared_config_release(client->opened);
    client->opened = NULL;
    if (client->closing) {
        closed_as_told(client);
    } else if (closed->taken_over) {
        enter_conflict(client, closed->message);
    } else if (client->state == CLIENT_OPENING) {
        host_fail(client, closed->code, closed->message);
    } else {
        lost(client, closed->code, closed->message);
    }
}

/* ---- time is over ---- */

static void stable(struct client *client) {
    client->failures = 0;
    client->suspicion = 0;
    client->early_loss = false;
    client->host->owner->stable(client->host->owner->context, client->id);
}

static void never_let_in(struct client *client) {
    host_tear_down(client, false);
    if (host_change(client, CLIENT_EV_FAILED, "release_after")) {
        host_schedule(client, host_backoff_ms(client)); /* asks for the release */
    }
}

static void try_again(struct client *client) {
    if (client->release_asked) {
        host_ask_release(client, client->error_code, client->error_message,
                         client->release_delay_ms, 0);
    } else if (judge_early_loss(client)) {
        enter_conflict(client, "lost soon after each connect: another client seems to use its "
                               "identifier");
    } else if (host_change(client, CLIENT_EV_TIMER, "retry")) {
        host_enqueue(client);
    }
}

static const char UNACKNOWLEDGED[] = "the broker did not acknowledge the subscriptions";

/* What a session has saved up comes before the SUBACK, and waits for a sink: to begin anew would
 * only bring it again. But a broker that sends for ever and never acknowledges is no good. Others
 * may connect meanwhile. */
static bool keeps_waiting(struct client *client) {
    const struct conf *conf = client->host->conf;
    int64_t timeout_ms = conf->connect_timeout_ms;
    bool receiving = client->state == CLIENT_SUBSCRIBING &&
                     clock_wall_ms() - client->last_packet_at_ms < timeout_ms / 2 &&
                     clock_ms() - client->connack_at_ms < conf->release_after_ms;
    if (host_has_room(client) && !receiving) {
        return false;
    }
    pacer_leave(&client->host->pacer, &client->ticket);
    host_set_timer(client, timeout_ms);
    return true;
}

void host_timer(struct client *client) {
    switch (client->state) {
    case CLIENT_QUEUED:
    case CLIENT_RESOLVING:
        never_let_in(client);
        break;
    case CLIENT_OPENING:
        host_fail(client, "connect_timeout", "the broker did not answer in time");
        break;
    case CLIENT_SUBSCRIBING:
        if (!keeps_waiting(client)) {
            host_fail(client, "subscribe_timeout", UNACKNOWLEDGED);
        }
        break;
    case CLIENT_ONLINE:
        if (client->work == NULL) {
            stable(client);
        } else if (!keeps_waiting(client)) {
            lost(client, "subscribe_timeout", UNACKNOWLEDGED);
        }
        break;
    case CLIENT_BACKOFF:
        try_again(client);
        break;
    case CLIENT_CONFLICT:
        ask_for_rest(client);
        break;
    default:
        break;
    }
}
