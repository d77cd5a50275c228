/* Owns what is known of the last loss of a client, and what its verdict leads to. Host thread only.
 * See mqtt/loss.h for the order of explanations. */
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "mqtt/host.h"

/* A loss that nothing explains counts whole; two thirds if the broker no longer has the session
 * after it; a third if a tenth of the broker's clients went within a second. */
#define JUDGE_SUSPICION_ALONE 3
#define JUDGE_SUSPICION_MASS  1
#define JUDGE_SESSION_LOST    1 /* less */

void host_forget_loss(struct client *client) {
    host_look_over(client);
    free(client->loss);
    client->loss = NULL;
    host_note_suspects(client, NULL);
}

static void judge_acquit(struct client *client) {
    client->suspicion = 0;
    client->suspected = false;
}

void host_clear_suspicion(struct client *client) {
    judge_acquit(client);
    host_forget_loss(client);
}

void host_doubt_suspicion(struct client *client) {
    if (client->suspected) {
        client->suspicion -= JUDGE_SESSION_LOST;
        client->suspected = false;
    }
    client->failures -= client->failures > 0;
}

bool host_in_conflict(const struct client *client) {
    return client->suspicion >=
           JUDGE_SUSPICION_ALONE * (unsigned)client->host->conf->conflict_losses;
}

/* ---- at the loss ---- */

static struct loss_facts judge_facts(const struct client *client,
                                     const struct engine_closed *closed) {
    int64_t now_ms = clock_ms();
    int64_t age_ms = now_ms - client->connack_at_ms;
    enum client_blame blame = host_subscribe_doubt(client, closed->error);
    return (struct loss_facts){
        .lost_at_ms = now_ms,
        .age_ms = age_ms,
        /* Without a lease another node may rightly have it. */
        .early = client->state == CLIENT_ONLINE && age_ms < client->host->conf->stable_ms &&
                 client->host->lease_was_valid,
        .subscribing = blame != BLAME_NOTHING,
        .blame = (uint8_t)blame,
        .publications_pending = closed->suspects != NULL,
        .publications_told = closed->suspects != NULL && closed->suspects->told,
        .look = -1,
    };
}

/* Only where the verdict may hang on it. */
static bool judge_needs_look(const struct client *client, const struct loss_facts *facts) {
    unsigned limit = JUDGE_SUSPICION_ALONE * (unsigned)client->host->conf->conflict_losses;
    return loss_judge(facts) == LOSS_BY_RIVAL && client->suspicion + JUDGE_SUSPICION_ALONE >= limit;
}

/* True: the next connection will not be the same again, so that it need not wait for long. */
static bool judge_charge(struct client *client, const struct loss_facts *facts,
                         enum loss_verdict verdict) {
    switch (verdict) {
    case LOSS_BY_SUBSCRIPTIONS:
        return host_subscribe_blame(client, facts->blame);
    case LOSS_BY_PUBLICATIONS:
        return host_publications_blame(client);
    default:
        return false;
    }
}

bool host_note_loss(struct client *client, const struct engine_closed *closed) {
    struct loss_facts facts = judge_facts(client, closed);
    struct incident_loss loss = {.client = client_number(client),
                                 .was_online = client->state == CLIENT_ONLINE,
                                 .bystander = !facts.subscribing && !facts.publications_pending};
    facts.window = incident_lost(client->broker->incident, &loss, facts.lost_at_ms);
    host_forget_loss(client);
    client->url_lost = client->url_index;
    host_note_suspects(client, closed->suspects);
    bool silent = facts.subscribing && closed->error == CLIENT_ERROR_SUBSCRIBE_TIMEOUT;
    if (facts.subscribing && closed->error == CLIENT_ERROR_ANSWER_UNFIT) {
        judge_acquit(client);
        return judge_charge(client, &facts, LOSS_BY_SUBSCRIPTIONS);
    }
    if (closed->error != CLIENT_ERROR_CONNECTION_LOST && !silent) {
        judge_acquit(client);
        return judge_charge(client, &facts, loss_judge_told(&facts, closed->reason_code));
    }
    client->loss = malloc(sizeof *client->loss); /* without it nobody is charged */
    if (client->loss != NULL) {
        *client->loss = facts;
    }
    if (client->loss != NULL && judge_needs_look(client, &facts)) {
        host_look(client);
    }
    return false;
}

/* ---- before the next try ---- */

static void judge_suspect(struct client *client, const struct loss_facts *facts) {
    bool mass = incident_was_mass(client->broker->incident, facts->window);
    client->suspicion += mass ? JUDGE_SUSPICION_MASS : JUDGE_SUSPICION_ALONE;
    client->suspected = !mass;
}

/* A broker that is there, and no packet to blame: only then the age means something. */
static enum loss_verdict judge_verdict(const struct client *client, struct loss_facts *facts) {
    struct incident *incident = client->broker->incident;
    enum incident_says says = incident_explains(incident, facts->lost_at_ms);
    bool away = facts->refused || says == INCIDENT_SAYS_AWAY;
    if (!away && loss_judge(facts) > LOSS_BY_PUBLICATIONS) {
        facts->steady_age =
            incident_note_age(incident, client_number(client), facts->age_ms, facts->lost_at_ms);
    }
    facts->broker_away = away || (says == INCIDENT_SAYS_EMPTIED && !facts->steady_age);
    return loss_judge(facts);
}

static void judge_tell_age(struct client *client, int64_t age_ms) {
    char message[160];
    snprintf(message, sizeof message,
             "the broker ends connections after about %.1f s, those of other clients too",
             (double)age_ms / 1000);
    host_note_error(client, CLIENT_ERROR_CLOSED_AT_AN_AGE, message);
}

bool host_tell_age(struct client *client) {
    const struct loss_facts *facts = client->loss;
    bool steady = facts != NULL && loss_judge(facts) >= LOSS_BY_AGE &&
                  incident_age_is_steady(client->broker->incident, facts->age_ms);
    if (steady) {
        judge_tell_age(client, facts->age_ms);
    }
    return steady;
}

int64_t host_judge_loss(struct client *client) {
    struct loss_facts facts = *client->loss;
    enum loss_verdict verdict = judge_verdict(client, &facts);
    log_event(LOG_DEBUG, "loss_judged", KS("client", client->id),
              KS("by", loss_verdict_name(verdict)), KI("age_ms", facts.age_ms));
    bool sooner = verdict == LOSS_BY_BROKER || judge_charge(client, &facts, verdict);
    host_forget_loss(client);
    if (facts.refused) {
        judge_acquit(client); /* it restarts again and again */
    } else if (verdict == LOSS_BY_RIVAL) {
        judge_suspect(client, &facts);
    } else if (verdict == LOSS_BY_AGE) {
        judge_acquit(client);
        judge_tell_age(client, facts.age_ms);
    } else if (verdict == LOSS_UNEXPLAINED) {
        judge_acquit(client);
    }
    if (sooner && client->failures > 0) {
        client->failures--;
    }
    return sooner ? 0 : facts.rest_ms;
}
