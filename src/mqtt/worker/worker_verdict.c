/* Owns the facts about the last loss of a client, and the consequences of its verdict. Worker
 * thread only. See mqtt/client/loss.h for the order of explanations. */
#include <stdio.h>
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "mqtt/worker/worker.h"

/* A loss without an explanation counts fully; two thirds if the broker no longer has the session
 * after it; a third if a tenth of the broker's clients were lost within a second. */
#define VERDICT_SUSPICION_ALONE 3
#define VERDICT_SUSPICION_MASS  1
#define VERDICT_SESSION_LOST    1 /* subtracted */

void worker_forget_loss(struct client *client) {
    worker_check_broker_end(client);
    free(client->loss);
    client->loss = NULL;
    worker_note_suspects(client, NULL);
}

static void worker_verdict_clear_suspicion(struct client *client) {
    client->suspicion = 0;
    client->last_loss_suspected = false;
}

void worker_clear_suspicion(struct client *client) {
    worker_verdict_clear_suspicion(client);
    worker_forget_loss(client);
}

void worker_reduce_suspicion(struct client *client) {
    if (client->last_loss_suspected) {
        client->suspicion -= VERDICT_SESSION_LOST;
        client->last_loss_suspected = false;
    }
    client->failures -= client->failures > 0;
}

bool worker_is_in_conflict(const struct client *client) {
    return client->suspicion >=
           VERDICT_SUSPICION_ALONE * (unsigned)client->worker->conf->conflict_losses;
}

/* ---- loss ---- */

static struct loss_facts worker_verdict_gather_facts(const struct client *client,
                                                     const struct engine_closed *closed) {
    int64_t now_ms = clock_ms();
    int64_t age_ms = now_ms - client->connack_at_ms;
    enum client_blame blame = worker_blame_find(client, closed->error);
    return (struct loss_facts){
        .lost_at_ms = now_ms,
        .age_ms = age_ms,
        /* Without a lease, another node may rightly use the identifier. */
        .early = client->state == CLIENT_ONLINE && age_ms < client->worker->conf->stable_ms &&
                 client->worker->lease_was_valid,
        .subscribing = blame != BLAME_NOTHING,
        .blame = (uint8_t)blame,
        .publications_pending = closed->suspects != NULL,
        .publications_by_reason_code =
            closed->suspects && closed->suspects->suspicion != SUSPICION_BY_TIME,
        .check_fd = -1,
    };
}

/* Only if the verdict may depend on it. */
static bool worker_verdict_needs_check(const struct client *client,
                                       const struct loss_facts *facts) {
    unsigned limit = VERDICT_SUSPICION_ALONE * (unsigned)client->worker->conf->conflict_losses;
    return loss_judge(facts) == LOSS_BY_RIVAL &&
           client->suspicion + (unsigned)VERDICT_SUSPICION_ALONE >= limit;
}

/* True: the next connection will be different, so it need not wait for long. */
static bool worker_verdict_charge(struct client *client, const struct loss_facts *facts,
                                  enum loss_verdict verdict) {
    switch (verdict) {
    case LOSS_BY_SUBSCRIPTIONS:
        return worker_blame_set(client, facts->blame);
    case LOSS_BY_PUBLICATIONS:
        return worker_publications_blame(client);
    default:
        return false;
    }
}

bool worker_note_loss(struct client *client, const struct engine_closed *closed) {
    struct loss_facts facts = worker_verdict_gather_facts(client, closed);
    struct incident_loss loss = {.client = client_number(client),
                                 .was_online = client->state == CLIENT_ONLINE,
                                 .bystander = !facts.subscribing && !facts.publications_pending};
    facts.window = incident_lost(client->broker->incident, &loss, facts.lost_at_ms);
    worker_forget_loss(client);
    client->url_lost = client->url_index;
    worker_note_suspects(client, closed->suspects);
    bool silent = facts.subscribing && closed->error == CLIENT_ERROR_SUBSCRIBE_TIMEOUT;
    if (facts.subscribing && closed->error == CLIENT_ERROR_ANSWER_UNFIT) {
        worker_verdict_clear_suspicion(client);
        return worker_verdict_charge(client, &facts, LOSS_BY_SUBSCRIPTIONS);
    }
    if (closed->error != CLIENT_ERROR_CONNECTION_LOST && !silent) {
        worker_verdict_clear_suspicion(client);
        return worker_verdict_charge(client, &facts,
                                     loss_judge_disconnect(&facts, closed->reason_code));
    }
    client->loss = malloc(sizeof *client->loss); /* without memory, nothing is charged */
    if (client->loss) {
        *client->loss = facts;
    }
    if (client->loss && worker_verdict_needs_check(client, &facts)) {
        worker_check_broker(client);
    }
    return false;
}

/* ---- before the next try ---- */

static void worker_verdict_add_suspicion(struct client *client, const struct loss_facts *facts) {
    bool mass = incident_was_mass(client->broker->incident, facts->window);
    client->suspicion =
        (uint16_t)(client->suspicion + (mass ? VERDICT_SUSPICION_MASS : VERDICT_SUSPICION_ALONE));
    client->last_loss_suspected = !mass;
}

/* The age has a meaning only if the broker is reachable and no packet is to blame. */
static enum loss_verdict worker_verdict_decide(const struct client *client,
                                               struct loss_facts *facts) {
    struct incident *incident = client->broker->incident;
    enum incident_explanation says = incident_explain(incident, facts->lost_at_ms);
    bool away = facts->refused || says == INCIDENT_EXPLAINS_UNREACHABLE;
    if (!away && loss_judge(facts) > LOSS_BY_PUBLICATIONS) {
        facts->steady_age =
            incident_note_age(incident, client_number(client), facts->age_ms, facts->lost_at_ms);
    }
    facts->broker_unreachable = away || (says == INCIDENT_EXPLAINS_ALL_LOST && !facts->steady_age);
    return loss_judge(facts);
}

static void worker_verdict_report_age(struct client *client, int64_t age_ms) {
    char message[160];
    snprintf(message, sizeof message,
             "the broker ends connections after about %.1f s, including those of other clients",
             (double)age_ms / 1000);
    worker_note_error(client, CLIENT_ERROR_CLOSED_AT_AN_AGE, message);
}

bool worker_report_steady_age(struct client *client) {
    const struct loss_facts *facts = client->loss;
    bool steady = facts && loss_judge(facts) >= LOSS_BY_AGE &&
                  incident_age_is_steady(client->broker->incident, facts->age_ms);
    if (steady) {
        worker_verdict_report_age(client, facts->age_ms);
    }
    return steady;
}

int64_t worker_judge_loss(struct client *client) {
    struct loss_facts facts = *client->loss;
    enum loss_verdict verdict = worker_verdict_decide(client, &facts);
    log_event(LOG_DEBUG, "loss_judged", KS("client", client->id),
              KS("by", loss_verdict_name(verdict)), KI("age_ms", facts.age_ms));
    bool sooner = verdict == LOSS_BY_BROKER || worker_verdict_charge(client, &facts, verdict);
    worker_forget_loss(client);
    if (facts.refused) {
        worker_verdict_clear_suspicion(client); /* it restarts repeatedly */
    } else if (verdict == LOSS_BY_RIVAL) {
        worker_verdict_add_suspicion(client, &facts);
    } else if (verdict == LOSS_BY_AGE) {
        worker_verdict_clear_suspicion(client);
        worker_verdict_report_age(client, facts.age_ms);
    } else if (verdict == LOSS_UNEXPLAINED) {
        worker_verdict_clear_suspicion(client);
    }
    if (sooner && client->failures > 0) {
        client->failures--;
    }
    return sooner ? 0 : facts.retry_wait_ms;
}
