/* Owns how one message reaches its queues: the routes decide, scripts run, and all copies are
 * collected before the first is put in a queue. The copies for `also` follow only if `to`
 * succeeded: a message that is offered again must not be delivered twice. */
#include "message/routes/routing.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "message/shape/script.h"
#include "message/sink_name.h"

#define DELIVERIES_MAX 512 /* of one message */

struct routing {
    atomic_size_t references;
    struct route_table *table;
    struct routing *fleet; /* whose routes follow those of a client; NULL: none */
    struct route_chain chain;
    struct routing_sinks sinks;
    size_t queue_count;
    struct message_queue *queues[]; /* of the sinks of the table */
};

/* A list of routes, and where its sinks are. */
struct routing_part {
    const struct route_table *table;
    struct message_queue *const *queues;
    struct message_queue_share *shares;
    const char *of; /* "", or whose routes they are */
};

struct routing_job {
    const struct routing *routing;
    const struct routing_client *client;
    struct message *message;
    struct message_delivery to[DELIVERIES_MAX], also[DELIVERIES_MAX];
    size_t to_count, also_count;
    bool sink_missing; /* one of `to` is not on this node */
    const char *missing;
    bool too_many;
};

/* ---- life ------------------------------------------------------------------------------------ */

/* The chain is not set yet. */
static struct routing *routing_make(struct route_table *table, const struct routing_sinks *sinks) {
    size_t count = route_table_sink_count(table);
    struct routing *routing = malloc(sizeof *routing + count * sizeof routing->queues[0]);
    if (!routing) {
        route_table_release(table);
        return NULL;
    }
    routing->references = 1;
    routing->table = table;
    routing->fleet = NULL;
    routing->sinks = *sinks;
    routing->queue_count = count;
    for (size_t i = 0; i < count; i++) {
        routing->queues[i] = sinks->find(sinks->context, route_table_sink(table, i));
    }
    return routing;
}

struct routing *routing_create(struct route_table *table, const struct routing_sinks *sinks) {
    struct routing *routing = routing_make(table, sinks);
    if (routing) {
        route_chain_init(&routing->chain, NULL, table);
    }
    return routing;
}

struct routing *routing_create_own(struct route_table *table, struct routing *fleet,
                                   const struct routing_sinks *sinks) {
    struct routing *routing = routing_make(table, sinks);
    if (routing) {
        routing->fleet = fleet;
        route_chain_init(&routing->chain, table, fleet ? fleet->table : NULL);
    } else {
        routing_release(fleet);
    }
    return routing;
}

struct routing *routing_retain(struct routing *routing) {
    if (routing) {
        atomic_fetch_add_explicit(&routing->references, 1, memory_order_relaxed);
    }
    return routing;
}

/* Recurses once: a fleet's routing has no other. */
void routing_release(struct routing *routing) {
    if (routing && atomic_fetch_sub(&routing->references, 1) == 1) {
        routing_release(routing->fleet);
        route_table_release(routing->table);
        free(routing);
    }
}

size_t routing_sink_count(const struct routing *routing) {
    return routing->queue_count + (routing->fleet ? routing->fleet->queue_count : 0);
}

struct message_queue *routing_queue(const struct routing *routing, size_t index) {
    return index < routing->queue_count ? routing->queues[index]
                                        : routing->fleet->queues[index - routing->queue_count];
}

/* ---- deliveries ------------------------------------------------------------------------------ */

static struct routing_part routing_part_of(const struct routing *routing, const char *of,
                                           struct message_queue_share *shares) {
    return (struct routing_part){
        .table = routing->table, .queues = routing->queues, .shares = shares, .of = of};
}

static struct routing_part routing_client_part(const struct routing_job *job) {
    return routing_part_of(job->routing, " of the client", job->client->shares);
}

static struct routing_part routing_fleet_part(const struct routing_job *job) {
    const struct routing *routing = job->routing;
    struct message_queue_share *shares = job->client->shares;
    return routing->fleet
               ? routing_part_of(routing->fleet, "", shares ? shares + routing->queue_count : NULL)
               : routing_part_of(routing, "", shares);
}

/* Takes over one reference of the message. */
static void routing_add(struct routing_job *job, bool also, struct message_queue *queue,
                        struct message_queue_share *share, struct message *message) {
    size_t *count = also ? &job->also_count : &job->to_count;
    job->sink_missing = job->sink_missing || (!also && !queue);
    job->too_many = job->too_many || *count == DELIVERIES_MAX;
    if (!queue || job->too_many) {
        message_destroy(message);
        return;
    }
    (also ? job->also : job->to)[(*count)++] =
        (struct message_delivery){.queue = queue, .share = share, .message = message};
}

/* bits: sinks of the part. */
static void routing_add_sinks(struct routing_job *job, bool also, const struct routing_part *part,
                              uint64_t bits, struct message *message) {
    for (; bits; bits &= bits - 1) {
        size_t i = (size_t)__builtin_ctzll(bits);
        struct message_queue_share *share = part->shares ? &part->shares[i] : NULL;
        struct message_queue *queue = part->queues[i];
        job->missing = queue || also ? job->missing : route_table_sink(part->table, i);
        routing_add(job, also, queue, share, message_retain(message));
    }
}

static void routing_discard(struct message_delivery *deliveries, size_t count) {
    for (size_t i = 0; i < count; i++) {
        message_destroy(deliveries[i].message);
    }
}

static void routing_discard_all(struct routing_job *job) {
    routing_discard(job->to, job->to_count);
    routing_discard(job->also, job->also_count);
    job->to_count = job->also_count = 0;
}

/* The reason is told with the original. */
static enum err routing_add_dead_letter(struct routing_job *job, const struct routing_part *part,
                                        size_t route, const char *fault) {
    struct message *letter = message_create(job->message);
    struct rejection *rejection = letter ? calloc(1, sizeof *rejection) : NULL;
    const char *name = route_table_name(part->table, route);
    if (!rejection) {
        message_destroy(letter);
        return ERR_MEMORY;
    }
    snprintf(rejection->sink, sizeof rejection->sink, "%s", SINK_ROUTES);
    snprintf(rejection->reason, sizeof rejection->reason, "route %zu%s%s%s: %.60s", route,
             name ? " " : "", name ? name : "", part->of, fault);
    rejection->rejected_at_ms = clock_wall_ms();
    letter->rejection = rejection;
    job->missing = job->routing->sinks.dead_letters ? job->missing : SINK_DEAD_LETTER;
    routing_add(job, false, job->routing->sinks.dead_letters, NULL, letter);
    return ERR_OK;
}

static enum err routing_add_scripted(struct routing_job *job, const struct routing_part *part,
                                     const struct route_scripted *scripted) {
    struct message *made[SCRIPT_MESSAGES_MAX];
    char fault[SCRIPT_FAULT_LEN];
    size_t count;
    enum err err = script_run(scripted->script, job->message, made, &count, fault);
    if (err == ERR_ARGUMENT) {
        return routing_add_dead_letter(job, part, scripted->route, fault);
    }
    for (size_t i = 0; i < count; i++) {
        routing_add_sinks(job, false, part, scripted->to, made[i]);
        routing_add_sinks(job, true, part, scripted->also, made[i]);
        message_destroy(made[i]);
    }
    return err;
}

static enum err routing_add_decided(struct routing_job *job, const struct routing_part *part,
                                    const struct route_decision *decision) {
    enum err err = ERR_OK;
    routing_add_sinks(job, false, part, decision->to, job->message);
    routing_add_sinks(job, true, part, decision->also, job->message);
    for (size_t i = 0; err == ERR_OK && i < decision->scripted_count; i++) {
        err = routing_add_scripted(job, part, &decision->scripted[i]);
    }
    return err;
}

static enum err routing_collect(struct routing_job *job,
                                const struct route_chain_decision *decision) {
    const struct routing_part client = routing_client_part(job), fleet = routing_fleet_part(job);
    enum err err = ERR_OK;
    if (job->routing->chain.client) {
        err = routing_add_decided(job, &client, &decision->client);
    }
    if (err == ERR_OK) {
        err = routing_add_decided(job, &fleet, &decision->fleet);
    }
    if (decision->to_default) {
        routing_add(job, false, job->client->standard, job->client->standard_share,
                    message_retain(job->message));
    }
    if (err == ERR_OK && job->too_many) { /* only scripts make so many */
        bool own = decision->client.scripted_count > 0;
        const struct route_decision *made = own ? &decision->client : &decision->fleet;
        routing_discard_all(job);
        job->sink_missing = job->too_many = false;
        err = routing_add_dead_letter(job, own ? &client : &fleet, made->scripted[0].route,
                                      "too many deliveries");
    }
    return err;
}

/* ---- put ------------------------------------------------------------------------------------- */

/* Each that has room. */
static enum err routing_put_each(struct routing_job *job, struct routing_result *result) {
    for (size_t i = 0; i < job->to_count; i++) {
        struct message_delivery *to = &job->to[i];
        enum err err = message_queue_put(to->queue, to->share, to->message, NULL);
        result->dropped_over_share += err == ERR_BUSY;
        result->dropped += err != ERR_OK && err != ERR_BUSY;
        if (err == ERR_WRONG_STATE) {
            message_destroy(to->message);
        }
    }
    result->dropped += job->sink_missing;
    return ERR_OK;
}

static enum err routing_put_all(struct routing_job *job, struct receipt *receipt,
                                struct routing_result *result) {
    size_t full = 0;
    if (job->sink_missing) {
        result->sink_missing = true;
        result->missing = job->missing;
        routing_discard(job->to, job->to_count);
        return ERR_FULL;
    }
    if (receipt) {
        receipt_expect(receipt, (unsigned)job->to_count);
    }
    enum err err = message_queue_put_all(job->to, job->to_count, receipt, &full);
    if (err == ERR_OK) {
        return ERR_OK;
    }
    if (receipt) {
        receipt_expect(receipt, 0);
    }
    result->full = job->to[full].queue;
    result->full_share = job->to[full].share;
    routing_discard(job->to, job->to_count);
    return err;
}

static void routing_put_also(struct routing_job *job, struct routing_result *result) {
    for (size_t i = 0; i < job->also_count; i++) {
        struct message_delivery *also = &job->also[i];
        enum err err = message_queue_put(also->queue, also->share, also->message, NULL);
        result->dropped_also += err != ERR_OK;
        if (err == ERR_FULL || err == ERR_WRONG_STATE) {
            message_destroy(also->message);
        }
    }
}

/* No sink stores anything: the message is answered at once. */
static void routing_answer_filtered(struct receipt *receipt) {
    if (receipt) {
        struct receipts *owner = receipt->owner;
        receipt_expect(receipt, 0);
        receipt_answer(receipt, ERR_OK);
        receipts_wake(owner);
    }
}

static enum err routing_put(struct routing_job *job, struct receipt *receipt,
                            struct routing_result *result) {
    enum err err = ERR_OK;
    result->filtered = job->to_count == 0 && !job->sink_missing;
    if (result->filtered) {
        routing_answer_filtered(receipt);
    } else if (job->message->qos == 0) {
        err = routing_put_each(job, result);
    } else {
        err = routing_put_all(job, receipt, result);
    }
    if (err == ERR_OK) {
        routing_put_also(job, result);
    } else {
        routing_discard(job->also, job->also_count);
    }
    return err;
}

enum err routing_submit(const struct routing *routing, const struct routing_client *client,
                        struct message *message, struct receipt *receipt,
                        struct routing_result *result) {
    struct message_view view;
    struct routing_job job;
    job.routing = routing;
    job.client = client;
    job.message = message;
    job.to_count = job.also_count = 0;
    job.sink_missing = job.too_many = false;
    job.missing = NULL;
    *result = (struct routing_result){0};
    message_view_init(&view, message, "");
    struct route_chain_decision decision;
    route_chain_match(&routing->chain, &view, &decision, NULL, NULL);
    message_view_fini(&view);
    enum err err =
        view.json_state == MESSAGE_JSON_NO_MEMORY ? ERR_MEMORY : routing_collect(&job, &decision);
    if (err != ERR_OK) { /* out of memory */
        routing_discard_all(&job);
        return ERR_FULL;
    }
    err = routing_put(&job, receipt, result);
    if (err == ERR_OK) {
        message_destroy(message);
    }
    return err;
}
