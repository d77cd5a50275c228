/* Owns the last look at the register of nodes, and finds what has changed since. The news thread
 * only. Must not know who listens. */
#include "news_register.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/json_memory.h"

struct look {
    struct store_node *nodes; /* sorted by name */
    size_t n;
    char *leader; /* NULL: none */
};

struct news_register {
    struct store *store;
    int64_t heartbeat_ttl_ms;
    bool known; /* there was a look */
    struct look last;
};

static void look_fini(struct look *look) {
    store_nodes_free(look->nodes, look->n);
    free(look->leader);
    *look = (struct look){0};
}

struct news_register *news_register_create(struct store *store, int64_t heartbeat_ttl_ms) {
    struct news_register *nodes = calloc(1, sizeof(*nodes));
    if (nodes != NULL) {
        nodes->store = store;
        nodes->heartbeat_ttl_ms = heartbeat_ttl_ms;
    }
    return nodes;
}

void news_register_forget(struct news_register *nodes) {
    look_fini(&nodes->last);
    nodes->known = false;
}

void news_register_destroy(struct news_register *nodes) {
    if (nodes != NULL) {
        look_fini(&nodes->last);
        free(nodes);
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

struct teller {
    news_tell *tell;
    void *context;
};

static void say(const struct teller *teller, enum news_kind kind, const char *name,
                const char *state, const char *reason) {
    char at[CLOCK_RFC3339_LEN];
    json_t *shown = name != NULL ? json_string(name) : NULL;
    json_t *json = json_pack("{s:s, s:s, s:o, s:s, s:s}", "at", clock_rfc3339(clock_wall_ms(), at),
                             "kind", news_kind_name(kind), "name",
                             shown != NULL ? shown : json_null(), "state", state, "reason", reason);
    char *text = json != NULL ? json_text(json, JSON_COMPACT) : NULL;
    if (text != NULL) {
        teller->tell(teller->context, &(struct news_item){.kind = kind,
                                                          .subject = name != NULL ? name : "",
                                                          .state = state,
                                                          .text = text});
    }
    free(text);
    json_decref(json);
}

/* ---- comparing ------------------------------------------------------------------------------- */

enum look_state { LOOK_LIVE, LOOK_DRAINING, LOOK_DEAD, LOOK_MISSING };

/* As the API shows it, with why it became so. */
static const struct {
    const char *state, *reason;
} looks[] = {
    [LOOK_LIVE] = {"live", "takes clients again"},
    [LOOK_DRAINING] = {"draining", "told to give its clients away"},
    [LOOK_DEAD] = {"dead", "fenced: its beats stayed away, its clients go to other nodes"},
    [LOOK_MISSING] = {"missing", "does not beat"},
};

static enum look_state state_of(const struct store_node *node) {
    if (node->state == STORE_NODE_DEAD) {
        return LOOK_DEAD;
    }
    if (!node->beating) {
        return LOOK_MISSING;
    }
    return node->state == STORE_NODE_DRAINING ? LOOK_DRAINING : LOOK_LIVE;
}

static void compare_node(const struct teller *teller, const struct store_node *before,
                         const struct store_node *now) {
    enum look_state was = state_of(before), is = state_of(now);
    if (strcmp(before->incarnation, now->incarnation) != 0) {
        say(teller, NEWS_NODE, now->name, looks[is].state, "joined anew");
    } else if (was != is) {
        bool back = was == LOOK_MISSING && is != LOOK_DEAD;
        say(teller, NEWS_NODE, now->name, looks[is].state, back ? "beats again" : looks[is].reason);
    }
}

static void compare(const struct teller *teller, const struct look *before,
                    const struct look *now) {
    size_t i = 0, k = 0;
    while (i < before->n || k < now->n) { /* both sorted */
        int order = i == before->n ? 1
                    : k == now->n  ? -1
                                   : strcmp(before->nodes[i].name, now->nodes[k].name);
        if (order < 0) {
            bool dead = state_of(&before->nodes[i]) == LOOK_DEAD;
            say(teller, NEWS_NODE, before->nodes[i].name, "gone",
                dead ? "fenced and emptied" : "left");
            i++;
        } else if (order > 0) {
            say(teller, NEWS_NODE, now->nodes[k].name, looks[state_of(&now->nodes[k])].state,
                "joined");
            k++;
        } else {
            compare_node(teller, &before->nodes[i++], &now->nodes[k++]);
        }
    }
    const char *old = before->leader != NULL ? before->leader : "";
    const char *new = now->leader != NULL ? now->leader : "";
    if (strcmp(old, new) != 0) {
        say(teller, NEWS_LEADER, now->leader, now->leader != NULL ? "leading" : "none",
            now->leader != NULL ? "leads now" : "nobody leads");
    }
}

void news_register_look(struct news_register *nodes, news_tell *tell, void *context) {
    struct look now = {0};
    if (store_nodes(nodes->store, nodes->heartbeat_ttl_ms, &now.nodes, &now.n, &now.leader) !=
        ERR_OK) {
        return; /* Redis is away: compared with the last look once it is back */
    }
    if (nodes->known) {
        compare(&(struct teller){tell, context}, &nodes->last, &now);
    }
    look_fini(&nodes->last);
    nodes->last = now;
    nodes->known = true;
}
