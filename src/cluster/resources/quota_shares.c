/* Owns this node's shares of the rates of quotas.
 *
 * A share that shrinks does so at once. One that grows does so one round later, when the others
 * have read the report that lets it grow. So the sum of the shares stays within the rate as long as
 * the rounds of all nodes take place. */
#include "cluster/resources/quota_shares.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/text.h"

#define NS_PER_US      1000
#define HEADROOM       1.25
#define SPARE_FRACTION 10

/* What the last round computed for a scope. */
struct quota_round {
    char *scope;
    double shares[RATE_QUOTA_COUNT];
};

struct quota_shares {
    struct node *node;
    struct store *store;
    struct rate_quotas *quotas;
    struct quota_round *rounds;
    size_t round_count;
};

struct quota_shares *quota_shares_create(struct node *node, struct store *store,
                                         struct rate_quotas *quotas) {
    struct quota_shares *shares = calloc(1, sizeof *shares);
    if (shares) {
        *shares = (struct quota_shares){.node = node, .store = store, .quotas = quotas};
    }
    return shares;
}

static void quota_rounds_free(struct quota_round *rounds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(rounds[i].scope);
    }
    free(rounds);
}

void quota_shares_destroy(struct quota_shares *shares) {
    if (shares) {
        quota_rounds_free(shares->rounds, shares->round_count);
        free(shares);
    }
}

/* ---- division -------------------------------------------------------------------------------- */

static double quota_demand_weight(const struct quota_demand *node) {
    return node->clients > 1 ? (double)node->clients : 1;
}

/* The weight of the nodes without a share. */
static double quota_shares_open_weight(const struct quota_demand *nodes, size_t n) {
    double weight = 0;
    for (size_t i = 0; i < n; i++) {
        weight += nodes[i].share < 0 ? quota_demand_weight(&nodes[i]) : 0;
    }
    return weight;
}

/* Gives nodes with enough what they want, if that is less than their part of what is left. Returns
 * how much was given. */
static double quota_shares_settle(struct quota_demand *nodes, size_t n, double level,
                                  double least) {
    double given = 0;
    for (size_t i = 0; i < n; i++) {
        double wanted = nodes[i].use * HEADROOM;
        wanted = wanted > least ? wanted : least;
        if (nodes[i].share < 0 && !nodes[i].limited &&
            wanted <= level * quota_demand_weight(&nodes[i])) {
            nodes[i].share = wanted;
            given += wanted;
        }
    }
    return given;
}

void quota_shares_divide(double per_s, struct quota_demand *nodes, size_t n) {
    double left = per_s, least = per_s / (double)(SPARE_FRACTION * (n > 0 ? n : 1)), given = 0;
    double all = 0;
    for (size_t i = 0; i < n; i++) {
        nodes[i].share = -1;
        all += quota_demand_weight(&nodes[i]);
    }
    for (size_t i = 0; i < n; i++) { /* each pass settles one node at least */
        double open = quota_shares_open_weight(nodes, n);
        given = open > 0 ? quota_shares_settle(nodes, n, left / open, least) : 0;
        left -= given;
        if (given <= 0) {
            break;
        }
    }
    double open = quota_shares_open_weight(nodes, n);
    for (size_t i = 0; i < n; i++) { /* if all have enough, they divide the rest */
        double weight = quota_demand_weight(&nodes[i]);
        if (open <= 0) {
            nodes[i].share += left * weight / all;
        } else if (nodes[i].share < 0) {
            nodes[i].share = left * weight / open;
        }
    }
}

/* ---- reports --------------------------------------------------------------------------------- */

/* {"label.tenant=acme": {"clients": 3, "messages_per_s": [use, limited, allowed, delayed,
 * refused]}}, with the rates that are limited. A version that knows more appends. */
json_t *quota_shares_report(const struct rate_quota_sample *samples, size_t n) {
    json_t *report = json_object();
    for (size_t i = 0; i < n; i++) {
        json_t *scope = json_pack("{s:I}", "clients", (json_int_t)samples[i].clients);
        for (enum rate_quota_kind kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
            const struct rate_quota_use *use = &samples[i].uses[kind];
            if (use->per_s > 0) {
                json_object_set_new(scope, rate_quota_name(kind),
                                    json_pack("[f, b, I, I, I]", use->use, (int)use->limited,
                                              (json_int_t)use->allowed, (json_int_t)use->delayed,
                                              (json_int_t)use->refused));
            }
        }
        if (json_object_set_new(report, samples[i].scope, scope) != 0) {
            json_decref(report);
            return NULL;
        }
    }
    return report;
}

void quota_shares_add_use(const json_t *report, const char *scope, enum rate_quota_kind kind,
                          struct quota_use_sum *sum) {
    const json_t *use = json_object_get(json_object_get(report, scope), rate_quota_name(kind));
    sum->nodes += use != NULL;
    sum->use += json_number_value(json_array_get(use, 0));
    sum->allowed += json_integer_value(json_array_get(use, 2));
    sum->delayed += json_integer_value(json_array_get(use, 3));
    sum->refused += json_integer_value(json_array_get(use, 4));
}

/* False: the node has nothing to do with that rate. */
static bool quota_shares_read_demand(const json_t *report, const char *scope,
                                     enum rate_quota_kind kind, struct quota_demand *out) {
    const json_t *of_scope = json_object_get(report, scope);
    const json_t *use = json_object_get(of_scope, rate_quota_name(kind));
    double used = json_number_value(json_array_get(use, 0));
    *out =
        (struct quota_demand){.use = used > 0 ? used : 0,
                              .limited = json_is_true(json_array_get(use, 1)),
                              .clients = json_integer_value(json_object_get(of_scope, "clients"))};
    return use != NULL;
}

/* ---- a round --------------------------------------------------------------------------------- */

/* The reports of all nodes, as read; this node's is the first. */
struct quota_reports {
    json_t *list[QUOTA_SHARES_NODES_MAX];
    size_t count;
};

/* Reads the other reports: this node knows its own. */
static void quota_reports_read(struct quota_reports *reports, const struct store_quota_use *rows,
                               size_t n, const char *own) {
    for (size_t i = 0; i < n && reports->count < QUOTA_SHARES_NODES_MAX; i++) {
        json_t *report = NULL;
        if (rows[i].node && rows[i].report && strcmp(rows[i].node, own) != 0) {
            report = json_from_text(rows[i].report, strlen(rows[i].report), 0);
        }
        if (report) {
            reports->list[reports->count++] = report;
        }
    }
}

static void quota_reports_fini(struct quota_reports *reports) {
    for (size_t i = 0; i < reports->count; i++) {
        json_decref(reports->list[i]);
    }
}

/* This node's share by the reports. */
static double quota_reports_share(const struct quota_reports *reports, const char *scope,
                                  enum rate_quota_kind kind, double per_s) {
    struct quota_demand nodes[QUOTA_SHARES_NODES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < reports->count; i++) {
        n += quota_shares_read_demand(reports->list[i], scope, kind, &nodes[n]);
    }
    quota_shares_divide(per_s, nodes, n);
    return n > 0 ? nodes[0].share : per_s;
}

/* NULL: the last round did not have it. */
static const struct quota_round *quota_shares_last(const struct quota_shares *shares,
                                                   const char *scope) {
    for (size_t i = 0; i < shares->round_count; i++) {
        if (shares->rounds[i].scope && strcmp(shares->rounds[i].scope, scope) == 0) {
            return &shares->rounds[i];
        }
    }
    return NULL;
}

static void quota_shares_apply_one(struct quota_shares *shares, const struct quota_reports *reports,
                                   const struct rate_quota_sample *sample,
                                   struct quota_round *round) {
    const struct quota_round *last = quota_shares_last(shares, sample->scope);
    for (enum rate_quota_kind kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
        const struct rate_quota_use *use = &sample->uses[kind];
        if (use->per_s == 0) {
            continue;
        }
        double now = quota_reports_share(reports, sample->scope, kind, use->per_s);
        double before = last && last->shares[kind] > 0 ? last->shares[kind] : use->share;
        round->shares[kind] = now;
        rate_quotas_set_share(shares->quotas, sample->scope, kind, now < before ? now : before,
                              clock_us() * NS_PER_US);
    }
}

static void quota_shares_apply(struct quota_shares *shares, const struct quota_reports *reports,
                               const struct rate_quota_sample *samples, size_t n) {
    struct quota_round *rounds = calloc(n + 1, sizeof *rounds);
    if (!rounds) {
        return; /* as if Redis had not answered */
    }
    for (size_t i = 0; i < n; i++) {
        rounds[i].scope = text_dup(samples[i].scope); /* without memory, it grows later */
        quota_shares_apply_one(shares, reports, &samples[i], &rounds[i]);
    }
    quota_rounds_free(shares->rounds, shares->round_count);
    shares->rounds = rounds;
    shares->round_count = n;
}

/* Takes over the report of this node. */
static void quota_shares_exchange(struct quota_shares *shares, json_t *own,
                                  const struct rate_quota_sample *samples, size_t n) {
    struct quota_reports reports = {.list = {own}, .count = 1};
    struct store_quota_use *rows = NULL;
    char incarnation[TEXT_ID_LEN], *text = json_to_text(own, JSON_COMPACT);
    size_t row_count = 0;
    const char *name = node_name(shares->node);
    node_incarnation(shares->node, incarnation);
    enum err err =
        text ? store_report_quota_use(shares->store, &(struct store_member){name, incarnation},
                                      text, &rows, &row_count)
             : ERR_MEMORY;
    if (err == ERR_OK) {
        quota_reports_read(&reports, rows, row_count, name);
        quota_shares_apply(shares, &reports, samples, n);
    }
    store_quota_uses_free(rows, row_count);
    quota_reports_fini(&reports);
    free(text);
}

void quota_shares_step(struct quota_shares *shares) {
    struct rate_quota_sample *samples;
    size_t n;
    if (!rate_quotas_exist(shares->quotas) ||
        rate_quotas_sample(shares->quotas, clock_us() * NS_PER_US, node_fleet_size(shares->node),
                           &samples, &n) != ERR_OK) {
        return;
    }
    json_t *report = n > 0 ? quota_shares_report(samples, n) : NULL;
    if (report) {
        quota_shares_exchange(shares, report, samples, n);
    }
    rate_quota_samples_free(samples, n);
}
