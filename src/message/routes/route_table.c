/* Owns the compiled list: rules in order, their topics in one trie, and the names of their sinks.
 */
#include "message/routes/route_table.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/system/json_memory.h"
#include "message/routes/topic_trie.h"
#include "route_rule.h"

#define WORD_BITS 64
#define WORDS_MAX ((ROUTES_MAX + WORD_BITS - 1) / WORD_BITS)

struct route_table {
    atomic_size_t references;
    struct route_rule *rules;
    size_t rule_count;
    struct topic_trie *topics;
    uint32_t *everywhere; /* rules without a topic; unlike "#", they also match $SYS/... */
    size_t everywhere_count;
    const char *sinks[ROUTE_SINKS_MAX]; /* in the documents of the rules */
    size_t sink_count;
    bool needs_origin, has_script;
    char *text; /* the list; NULL: not shared */
    UT_hash_handle hh;
};

/* The shared tables, by their text. The lock also guards their reference counts. */
static pthread_mutex_t route_tables_lock = PTHREAD_MUTEX_INITIALIZER;
static struct route_table *route_tables;

/* Rules whose topics match; a bit each, which keeps their order. */
struct route_candidates {
    uint64_t words[WORDS_MAX];
    size_t first, end; /* words that may have bits */
};

/* ---- compile --------------------------------------------------------------------------------- */

static bool route_table_add_sinks(struct route_table *table, const json_t *names, uint64_t *bits) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        size_t at = 0;
        while (at < table->sink_count && strcmp(table->sinks[at], name) != 0) {
            at++;
        }
        if (at == ROUTE_SINKS_MAX) {
            return false;
        }
        table->sinks[at] = name;
        table->sink_count += at == table->sink_count ? 1 : 0;
        *bits |= UINT64_C(1) << at;
    }
    return true;
}

static void route_table_add_topics(struct route_table *table, size_t index,
                                   struct route_faults *faults) {
    const struct route_rule *rule = &table->rules[index];
    for (size_t i = 0; i < json_array_size(rule->topics); i++) {
        const char *filter = json_string_value(json_array_get(rule->topics, i));
        enum err err = topic_trie_add(table->topics, filter, (uint32_t)index);
        if (err == ERR_ARGUMENT) {
            route_fault(faults, "match/topic", "must have at most %d levels",
                        TOPIC_TRIE_LEVELS_MAX);
        } else if (err != ERR_OK) {
            route_fault_memory(faults);
        }
    }
    if (!rule->topics) {
        table->everywhere[table->everywhere_count++] = (uint32_t)index;
    }
}

static void route_table_add(struct route_table *table, const json_t *document,
                            struct route_faults *faults) {
    size_t index = table->rule_count++;
    struct route_rule *rule = &table->rules[index];
    faults->index = index;
    if (!route_rule_parse(rule, document, faults)) {
        return;
    }
    if (!route_table_add_sinks(table, json_object_get(rule->source, "to"), &rule->to) ||
        !route_table_add_sinks(table, json_object_get(rule->source, "also"), &rule->also)) {
        route_fault(faults, "to", "all routes together may name %d sinks", ROUTE_SINKS_MAX);
    }
    if (rule->to & rule->also) {
        route_fault(faults, "also", "must not name a sink that is in to");
    }
    table->needs_origin = table->needs_origin || rule->label_count > 0 || rule->broker ||
                          rule->script; /* which may read the broker */
    table->has_script = table->has_script || rule->script;
    route_table_add_topics(table, index, faults);
}

static bool route_table_fill(struct route_table *table, const json_t *list,
                             struct route_faults *faults) {
    if (!json_is_array(list) || json_array_size(list) > ROUTES_MAX) {
        faults->report(faults->context, "", "must be an array of at most 10000 routes");
        return false;
    }
    table->topics = topic_trie_create();
    table->rules = calloc(json_array_size(list) + 1, sizeof *table->rules);
    table->everywhere = calloc(json_array_size(list) + 1, sizeof *table->everywhere);
    if (!table->topics || !table->rules || !table->everywhere) {
        route_fault_memory(faults);
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        route_table_add(table, json_array_get(list, i), faults);
    }
    return !faults->any;
}

static struct route_table *route_table_compile(const json_t *list, struct route_faults *faults) {
    struct route_table *table = calloc(1, sizeof *table);
    if (!table) {
        route_fault_memory(faults);
        return NULL;
    }
    table->references = 1;
    if (!route_table_fill(table, list, faults)) {
        route_table_release(table);
        return NULL;
    }
    return table;
}

struct route_table *route_table_create(const json_t *list, route_fault_report *report,
                                       void *context) {
    struct route_faults faults = {.report = report, .context = context};
    return route_table_compile(list, &faults);
}

struct route_table *route_table_retain(struct route_table *table) {
    if (table) {
        atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
    }
    return table;
}

static void route_table_free(struct route_table *table) {
    for (size_t i = 0; i < table->rule_count; i++) {
        route_rule_fini(&table->rules[i]);
    }
    topic_trie_destroy(table->topics);
    free(table->everywhere);
    free(table->rules);
    free(table->text);
    free(table);
}

/* A shared table that has lost its last reference cannot be found any more. */
static bool route_table_drop_reference(struct route_table *table) {
    if (!table->text) {
        return atomic_fetch_sub(&table->references, 1) == 1;
    }
    pthread_mutex_lock(&route_tables_lock);
    bool last = atomic_fetch_sub(&table->references, 1) == 1;
    if (last) {
        HASH_DEL(route_tables, table);
    }
    pthread_mutex_unlock(&route_tables_lock);
    return last;
}

void route_table_release(struct route_table *table) {
    if (table && route_table_drop_reference(table)) {
        route_table_free(table);
    }
}

/* ---- share ----------------------------------------------------------------------------------- */

/* NULL: there is none. */
static struct route_table *route_tables_find(const char *text) {
    struct route_table *table;
    pthread_mutex_lock(&route_tables_lock);
    HASH_FIND_STR(route_tables, text, table);
    route_table_retain(table);
    pthread_mutex_unlock(&route_tables_lock);
    return table;
}

/* Takes over the text. If another thread has just added an equal table, it is that one. */
static struct route_table *route_tables_add(struct route_table *table, char *text) {
    struct route_table *same;
    pthread_mutex_lock(&route_tables_lock);
    HASH_FIND_STR(route_tables, text, same);
    route_table_retain(same);
    if (!same) {
        table->text = text;
        HASH_ADD_KEYPTR(hh, route_tables, text, strlen(text), table);
    }
    pthread_mutex_unlock(&route_tables_lock);
    if (same) {
        free(text);
        route_table_release(table);
    }
    return same ? same : table;
}

enum err route_table_share(const json_t *list, struct route_table **out, route_fault_report *report,
                           void *context) {
    struct route_faults faults = {.report = report, .context = context};
    char *text = json_to_text(list, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    *out = text ? route_tables_find(text) : NULL;
    if (!text || *out) {
        free(text);
        return text ? ERR_OK : ERR_MEMORY;
    }
    struct route_table *table = route_table_compile(list, &faults);
    if (!table) {
        free(text);
        return faults.out_of_memory ? ERR_MEMORY : ERR_ARGUMENT;
    }
    *out = route_tables_add(table, text);
    return ERR_OK;
}

/* ---- read ------------------------------------------------------------------------------------ */

size_t route_table_count(const struct route_table *table) {
    return table->rule_count;
}

size_t route_table_sink_count(const struct route_table *table) {
    return table->sink_count;
}

const char *route_table_sink(const struct route_table *table, size_t index) {
    assert(index < table->sink_count);
    return table->sinks[index];
}

const char *route_table_name(const struct route_table *table, size_t index) {
    assert(index < table->rule_count);
    return table->rules[index].name;
}

bool route_table_has_script(const struct route_table *table) {
    return table->has_script;
}

bool route_table_needs_origin(const struct route_table *table) {
    return table->needs_origin;
}

/* ---- match ----------------------------------------------------------------------------------- */

static void route_table_note_candidate(void *context, uint32_t value) {
    struct route_candidates *candidates = context;
    size_t word = value / WORD_BITS;
    while (candidates->end <= word) { /* words are cleared when they are first needed */
        candidates->words[candidates->end++] = 0;
    }
    candidates->words[word] |= UINT64_C(1) << value % WORD_BITS;
    candidates->first = word < candidates->first ? word : candidates->first;
}

struct route_search {
    struct message_view *view;
    struct route_decision *decision;
    route_taken *taken;
    void *context;
};

/* True: the route says stop. */
static bool route_table_take(const struct route_table *table, size_t index,
                             struct route_search *search) {
    const struct route_rule *rule = &table->rules[index];
    if (!route_rule_matches(rule, search->view)) {
        return false;
    }
    struct route_decision *decision = search->decision;
    if (!rule->script) {
        decision->to |= rule->to;
        decision->also |= rule->also;
    } else if (decision->scripted_count < ROUTES_SCRIPTED_MAX) {
        decision->scripted[decision->scripted_count++] =
            (struct route_scripted){rule->script, index, rule->to, rule->also};
    } else {
        return false;
    }
    decision->to_default = decision->to_default && rule->to == 0;
    if (search->taken) {
        search->taken(search->context, table, index);
    }
    return rule->stop;
}

void route_table_match(const struct route_table *table, struct message_view *view,
                       struct route_decision *out, route_taken *taken, void *context) {
    struct route_search search = {
        .view = view, .decision = out, .taken = taken, .context = context};
    struct route_candidates candidates;
    out->to = out->also = 0;
    out->scripted_count = 0; /* the array itself is large, and not cleared */
    out->to_default = true;
    out->stopped = false;
    candidates.first = WORDS_MAX;
    candidates.end = 0;
    for (size_t i = 0; i < table->everywhere_count; i++) {
        route_table_note_candidate(&candidates, table->everywhere[i]);
    }
    topic_trie_match(table->topics, view->message->topic, route_table_note_candidate, &candidates);
    for (size_t word = candidates.first; word < candidates.end && !out->stopped; word++) {
        for (uint64_t bits = candidates.words[word]; bits && !out->stopped; bits &= bits - 1) {
            size_t bit = (size_t)__builtin_ctzll(bits);
            out->stopped = route_table_take(table, word * WORD_BITS + bit, &search);
        }
    }
    out->also &= ~out->to;
}

uint64_t route_table_reachable(const struct route_table *table, uint64_t sinks,
                               const struct message_origin *origin, const char *filter) {
    uint64_t reachable = 0;
    for (size_t i = 0; i < table->rule_count && reachable != sinks; i++) {
        uint64_t more = table->rules[i].to & sinks & ~reachable;
        if (more && route_rule_may_match(&table->rules[i], origin, filter)) {
            reachable |= more;
        }
    }
    return reachable;
}
