/* The shared state of the fleet in Redis: one typed function per transition, each one Lua script
 * that is idempotent and fenced (see docs/protocol.md). Configurations are opaque here.
 *
 * A store owns a pool of connections; any thread may call, each call borrows one connection (and
 * waits for a free one within the Redis timeout). Errors common to all: ERR_UNAVAILABLE,
 * ERR_TIMEOUT (outcome unknown: call again), ERR_PROTOCOL (a script failed; logged), ERR_MEMORY.
 * When Redis is out of memory, create and update answer ERR_FULL and change nothing; all else goes
 * on. */
#ifndef MQFLEET_STORE_STORE_H
#define MQFLEET_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/text.h"
#include "net/redis/redis_info.h"

#define STORE_BATCH_MAX 200 /* ids in one script call; longer lists are cut into several calls */

struct store;

/* key_prefix "" for none. connections: 1 or more, opened when first needed. */
struct store *store_open(const char *url, const char *key_prefix, int64_t timeout_ms,
                         size_t connections);
void store_close(struct store *store);
/* From now on create, update and delete answer ERR_TIMEOUT (outcome unknown, calling again is safe)
 * unless that many replicas have the write within timeout_ms (WAIT); for an assignment it is only
 * logged. 0: never asked. Before other threads call. */
void store_require_replicas(struct store *store, int64_t replicas_min, int64_t timeout_ms);
enum err store_ping(struct store *store) MUST_CHECK;

/* What this process knows to be written, so that a Redis which lost some of it is noticed: each
 * changing call presents the number of an answered one. From now on `store` shares that of `with`,
 * which lives longer. restoring_ms: how long nothing is assigned after a loss. Before other threads
 * call. */
void store_share_history(struct store *store, struct store *with);
void store_set_restoring_ms(struct store *store, int64_t restoring_ms);
/* Whether a loss was noticed since the last call of this function. Any thread. */
bool store_noticed_rollback(struct store *store);
/* ERR_REFUSED: it does not tell, or not to this user: store_last_error says so. */
enum err store_redis_info(struct store *store, struct redis_info *out) MUST_CHECK;

#define STORE_ERROR_LEN 256
/* What the last failed call met, for an operator: server and cause; "" if none failed. No secret.
 */
void store_last_error(struct store *store, char out[STORE_ERROR_LEN]);

/* ---- one client ---------------------------------------------------------------------------- */

enum store_client_state { STORE_ABSENT, STORE_WAITING, STORE_OWNED };

/* Who owns an id. Strings owned by the record that holds it. */
struct store_owner {
    char *node;
    char *incarnation;
    int64_t epoch;    /* microseconds-like, grows with every assignment */
    int64_t since_ms; /* Redis wall clock of the assignment */
};

/* What is known of one id. All strings owned; store_client_fini. */
struct store_client {
    char *id;
    enum store_client_state state;
    char *config; /* as it was written; may be anything when put there by hand */
    size_t config_len;
    int64_t version;          /* ms of Redis' clock when it was written, or more; 1: by hand */
    struct store_owner owner; /* node NULL unless STORE_OWNED */
    int64_t attempts;         /* failed tries since it was last stable */
    char *attempt_code;       /* of the last try, NULL: none; e.g. "taken_over" */
    char *attempt_error;      /* which of the errors with that code, NULL: not known */
    char *attempt_message;
    char *attempt_node;
    char *denied_by;       /* incarnations of nodes that may not reach its broker */
    int64_t attempt_at_ms; /* Redis wall clock, 0: none */
    int64_t cooldown_ms;   /* how much longer nobody gets it; 0: it may be given at once */
};
void store_client_fini(struct store_client *client);

/* ERR_NOT_FOUND: STORE_ABSENT. One in `use` without a readable owner record counts as
 * STORE_WAITING, here and in pages: it is about to be. */
enum err store_get(struct store *store, const char *id, struct store_client *out) MUST_CHECK;

/* The id that has this identity (see struct store_create_item); free(). ERR_NOT_FOUND: none. */
enum err store_identity_owner(struct store *store, const char *identity, char **id) MUST_CHECK;

/* A page of waiting (STORE_WAITING) or owned (STORE_OWNED) ids in no order, by HSCAN: every id that
 * is there throughout comes up at least once. *cursor: 0 to begin; 0 after the call: the end. About
 * `count` rows, sometimes more, sometimes none. redis_ms (may be NULL): the server's clock. */
enum err store_page(struct store *store, enum store_client_state where, uint64_t *cursor,
                    size_t count, struct store_client **rows, size_t *row_count,
                    int64_t *redis_ms) MUST_CHECK;
void store_clients_free(struct store_client *rows, size_t row_count);

struct store_counts {
    int64_t waiting;      /* owned by no node */
    int64_t cooling_down; /* of those: not to be assigned before a later time */
    int64_t owned;
};
/* *out is zero after an error. */
enum err store_counts(struct store *store, struct store_counts *out) MUST_CHECK;

/* ---- create, update, delete ---------------------------------------------------------------- */

struct store_create_item {
    const char *id;
    const char *config;   /* canonical JSON text: equal text is "the same again" */
    const char *identity; /* broker and MQTT client identifier, e.g. "10.0.0.1:1883/dev-7" */
};

enum store_create_outcome {
    STORE_CREATED,
    STORE_UNCHANGED,
    STORE_OTHER_CONFIG,
    STORE_IDENTITY_TAKEN
};

struct store_create_result {
    enum store_create_outcome outcome;
    int64_t version;
    char *other_id; /* STORE_IDENTITY_TAKEN: who has it; owned, free() */
};

/* results[n]. Items after an error are not tried; *done says how many have results. Calling again
 * with the same items is safe. Wakes the leader. */
enum err store_create(struct store *store, const struct store_create_item *items, size_t n,
                      struct store_create_result *results, size_t *done) MUST_CHECK;

/* expected_version 0: any. ERR_NOT_FOUND, ERR_VERSION, ERR_EXISTS (identity taken: *other_id,
 * owned). Same text again under the version it would replace is ERR_OK without a new version. */
enum err store_update(struct store *store, const char *id, int64_t expected_version,
                      const char *config, const char *identity, int64_t *version,
                      char **other_id) MUST_CHECK;
/* ERR_NOT_FOUND, ERR_VERSION. Leaves a tombstone for an hour. */
enum err store_delete(struct store *store, const char *id, int64_t expected_version) MUST_CHECK;

/* ---- nodes --------------------------------------------------------------------------------- */

struct store_member { /* who calls: all borrowed */
    const char *node;
    const char *incarnation;
};

enum store_node_state {
    STORE_NODE_LIVE,
    STORE_NODE_DRAINING,
    STORE_NODE_LEAVING, /* it ends, and gives back what it has */
    STORE_NODE_DEAD
};
const char *store_node_state_name(enum store_node_state state); /* "live" "draining" ... */

struct store_node {
    char *name, *host, *type, *incarnation, *version; /* owned; never NULL */
    int64_t port, size, clients, started_at_ms;
    enum store_node_state state;
    bool heartbeat_valid;     /* its beat is there and names this incarnation */
    int64_t heartbeat_age_ms; /* since the last beat, from the key's time to live; -1: no beat */
    char *facts;              /* what it told with its last beat (JSON); owned, NULL: nothing */
};
/* All registered nodes, sorted by name. Entries that are no mqfleet node info (written by a Go IoT
 * node or by hand) come with an empty incarnation and beating false. leader (may be NULL): owned
 * name or NULL. heartbeat_ttl_ms: to make ages out of times to live. */
enum err store_nodes(struct store *store, int64_t heartbeat_ttl_ms, struct store_node **nodes,
                     size_t *n, char **leader) MUST_CHECK;
/* Of these the one of that name, if it is registered; or those that tell that port, at the price of
 * a look at each. What every node asks when it joins. */
enum err store_nodes_named(struct store *store, int64_t heartbeat_ttl_ms, const char *name,
                           struct store_node **nodes, size_t *n) MUST_CHECK;
enum err store_nodes_at_port(struct store *store, int64_t heartbeat_ttl_ms, int64_t port,
                             struct store_node **nodes, size_t *n) MUST_CHECK;
void store_nodes_free(struct store_node *nodes, size_t n);
/* Both beat and tell one host and port: what is sent to one may come to the other. */
bool store_node_shares_address(const struct store_node *a, const struct store_node *b);

struct store_missing {        /* registered, and its beat is not there */
    char *name, *incarnation; /* owned; the latter "" for what is no mqfleet node */
    enum store_node_state state;
};
/* Which beats are missing; *all: how many nodes are registered. store_missing_free. */
enum err store_find_missing(struct store *store, struct store_missing **missing, size_t *n,
                            size_t *all) MUST_CHECK;
void store_missing_free(struct store_missing *missing, size_t n);

struct store_join {
    struct store_member member;
    const char *host, *type, *version;
    int64_t port, size, started_at_ms, heartbeat_ttl_ms;
    bool draining;
    bool rejoin; /* this incarnation was registered, and Redis has lost it or other data */
    const char
        *facts; /* as in store_heartbeat, so that nobody takes it for able to run all; NULL: none */
};
/* Reaps what an earlier incarnation left, registers, beats. ERR_EXISTS: a live node beats under
 * that name. ERR_FENCED: this incarnation was declared dead, take a new one. generation
 * (TEXT_ID_LEN bytes) is made when missing, and told. Idempotent, and also how a node registers
 * again after Redis lost its data (its clients follow by store_restore_item). */
enum err store_join(struct store *store, const struct store_join *join,
                    char generation[TEXT_ID_LEN]) MUST_CHECK;

#define STORE_UNPLACED_LEN 512

struct store_heartbeat {
    int64_t rev;      /* of this node's set, see struct store_set */
    int64_t redis_ms; /* wall clock of the server */
    bool draining;
    bool candidate_wanted; /* no node leads, or fewer than two are ready to */
    int64_t nodes;         /* registered, this one too */
    struct store_counts counts;
    /* Why clients wait, as the leader counted within the last seconds: JSON, "": not known. */
    char unplaced[STORE_UNPLACED_LEN];
};
/* facts: JSON text for the others. ERR_FENCED: declared dead: drop everything. ERR_WRONG_STATE:
 * Redis lost data (the generation, or this incarnation, is not known): join again and restore. */
enum err store_heartbeat(struct store *store, const struct store_member *member,
                         const char *generation, int64_t heartbeat_ttl_ms, const char *facts,
                         struct store_heartbeat *out) MUST_CHECK;

/* Marks `target` dead. ERR_REFUSED: it beats, or has another incarnation by now, or the caller does
 * not beat itself. Already dead is ERR_OK. */
enum err store_fence(struct store *store, const struct store_member *caller,
                     const struct store_member *target) MUST_CHECK;
/* Moves up to STORE_BATCH_MAX ids of a dead node to waiting; *moved how many; *finished: nothing is
 * left and the node is gone from the register. ERR_REFUSED: not dead, or another incarnation. */
enum err store_reap(struct store *store, const struct store_member *target, size_t *moved,
                    bool *finished) MUST_CHECK;
/* From now on nothing is assigned to the member. ERR_FENCED. */
enum err store_mark_leaving(struct store *store, const struct store_member *member) MUST_CHECK;
/* ERR_REFUSED: it still owns ids. Gone already is ERR_OK. */
enum err store_leave(struct store *store, const struct store_member *member) MUST_CHECK;
/* Sets or clears draining. ERR_NOT_FOUND; ERR_REFUSED: dead or leaving. */
enum err store_drain(struct store *store, const char *node, bool draining) MUST_CHECK;

enum store_role { STORE_ROLE_NONE, STORE_ROLE_STANDBY, STORE_ROLE_LEADER };
/* Becomes or stays leader, or one of two standbys, for ttl_ms. unplaced: for store_counts, kept if
 * it leads; "": not known. */
enum err store_lead(struct store *store, const struct store_member *member, int64_t ttl_ms,
                    const char *unplaced, enum store_role *role) MUST_CHECK;
/* Gives that up. */
enum err store_resign(struct store *store, const struct store_member *member) MUST_CHECK;

/* ---- assign and release -------------------------------------------------------------------- */

enum store_assign_outcome {
    STORE_ASSIGNED,        /* newly, or already to this very incarnation */
    STORE_ASSIGN_GONE,     /* not waiting: deleted, or owned by another */
    STORE_ASSIGN_FULL,     /* the target is at its size */
    STORE_ASSIGN_COOLDOWN, /* not before its time */
    STORE_ASSIGN_IDENTITY  /* another id has its broker and client identifier */
};

struct store_assign_item {
    const char *id;
    const char *identity; /* "" : not known */
};

struct store_assign_result {
    enum store_assign_outcome outcome;
    int64_t epoch; /* of STORE_ASSIGNED */
};
/* Gives waiting clients to `target`, which is woken and finds them by store_changes. ERR_FENCED:
 * not registered with this incarnation, dead, or not beating. ERR_REFUSED: draining or leaving.
 * ERR_WRONG_STATE: Redis lost data, and nodes put back what they run. results[n]; *done as in
 * store_create. */
enum err store_assign(struct store *store, const struct store_member *target,
                      const struct store_assign_item *items, size_t n,
                      struct store_assign_result *results, size_t *done) MUST_CHECK;

struct store_release_item {
    const char *id;
    int64_t epoch;
    int64_t version;         /* that ran; 0: none did, or not known */
    int64_t delay_ms;        /* nobody gets it before this time from now; 0: at once */
    int64_t cooldown_ms_max; /* more than delay_ms: it rests, twice as long as the last time, if not
                            forgotten, up to this. Else 0 */
    const char *code;        /* why: "stopping" "drained" "taken_over" "broker_unreachable" ... */
    const char *message;     /* "" or more detail */
    const char *error;       /* which of the errors with that code; NULL: not one of a client */
    bool failed;             /* counts as a failed attempt of this node: another is preferred */
};
/* Items that are not this member's at that epoch are skipped: they are somebody else's by now. So
 * are those whose version is newer than Redis knows: it went back, and they are to be restored
 * first. *released: how many moved. Wakes the leader. */
enum err store_release(struct store *store, const struct store_member *member,
                       const struct store_release_item *items, size_t n,
                       size_t *released) MUST_CHECK;

/* Keeps a waiting id from being tried before delay_ms and notes why (a configuration that cannot be
 * read, say). No effect on an id that is not waiting. again (may be NULL): the same was noted of
 * the same text before. */
enum err store_set_cooldown(struct store *store, const char *id, int64_t delay_ms, const char *code,
                            const char *message, bool *again) MUST_CHECK;
/* Forgets failed attempts once a connection has proved stable; the length of a rest only when peace
 * has lasted twice as long as it. n up to any number. */
enum err store_mark_stable(struct store *store, const struct store_member *member,
                           const char *const *ids, size_t n) MUST_CHECK;

/* ---- reconciling a node with what it should run ---------------------------------------------- */

/* How a node's set stands. */
struct store_set {
    int64_t rev;     /* grows with every change by anyone */
    int64_t gap_rev; /* up to this rev not all changes were noted: the whole list has to be read */
    int64_t digest;  /* of all that it owns, see store_digest_add */
    bool restoring;  /* Redis lost data: nothing that does not run yet is started */
};

struct store_change {
    int64_t rev;
    char *id;               /* owned */
    int64_t epoch, version; /* epoch 0: not this member's (any more) */
    char *config;           /* owned; NULL unless this member's */
    size_t config_len;
};
/* A page of what changed after `applied`, the oldest first; last: the last row of the page before,
 * NULL for the first. *n 0: the end. What `applied` covers is forgotten by Redis.
 * store_changes_free. ERR_FENCED: dead, unknown, or another incarnation. */
enum err store_changes(struct store *store, const struct store_member *member, int64_t applied,
                       const struct store_change *last, struct store_set *set,
                       struct store_change **rows, size_t *n) MUST_CHECK;
void store_changes_free(struct store_change *rows, size_t n);

struct store_assignment {
    char *id; /* owned */
    int64_t epoch;
    int64_t version;
};
/* All that this member owns now. Of *set only rev, read before the list, and restoring are known.
 * ERR_FENCED as store_changes. */
enum err store_list_assignments(struct store *store, const struct store_member *member,
                                struct store_assignment **rows, size_t *n,
                                struct store_set *set) MUST_CHECK;
void store_assignments_free(struct store_assignment *rows, size_t n);

/* The sum modulo 2^48 of the first 12 hexadecimal digits of sha1("id\nepoch\nversion") over all
 * clients; begins with 0, in any order. */
int64_t store_digest_add(int64_t digest, const char *id, int64_t epoch, int64_t version);
/* Replaces the sum that Redis keeps by that of the whole list, read at `rev`. ERR_WRONG_STATE: it
 * has changed since. */
enum err store_save_digest(struct store *store, const struct store_member *member, int64_t rev,
                           int64_t digest) MUST_CHECK;

enum store_ownership_status {
    STORE_OWNERSHIP_NONE,     /* no trace of the id, or only one that is older: Redis lost it */
    STORE_OWNERSHIP_MINE,     /* owned by this member at this epoch with this version */
    STORE_OWNERSHIP_STALE,    /* owned by this member, with a newer epoch or version */
    STORE_OWNERSHIP_NEWER,    /* owned by somebody at a newer epoch */
    STORE_OWNERSHIP_OLDER,    /* known with an older epoch or version: Redis went back */
    STORE_OWNERSHIP_WAITING,  /* it was released and waits */
    STORE_OWNERSHIP_TOMBSTONE /* it was deleted */
};
struct store_held {
    const char *id; /* borrowed */
    int64_t epoch, version;
};
/* For clients that this member runs otherwise than Redis says: evidence[n]. */
enum err store_ownership_status(struct store *store, const struct store_member *member,
                                const struct store_held *held, size_t n,
                                enum store_ownership_status *evidence) MUST_CHECK;

#define STORE_RESTORE_MAX 20 /* a text may be long: few go into one call */
struct store_restore_item {
    const char *id;
    int64_t epoch;
    const char *config;
    const char *identity;
    int64_t version;
};
struct store_restore_result {
    bool mine;              /* owned by the member (again), with this epoch and version */
    int64_t epoch, version; /* a version other than the given one: Redis has a newer text */
};
/* Puts running clients back. Not mine: a tombstone or an owner that is not older, it waits with a
 * text written by hand, or another id has its identity by now (then it waits). A text that is newer
 * than Redis' is kept there in any case. ERR_FENCED: the member is not registered. *done: items
 * with a result. */
enum err store_restore(struct store *store, const struct store_member *member,
                       const struct store_restore_item *items, size_t n,
                       struct store_restore_result *results, size_t *done) MUST_CHECK;

/* Ids in `use` that nobody can run go to waiting, in bounded steps; *moved. Those are the ids
 * without an owner record (left by Go IoT, or by hand; not while a Go IoT node beats, whose they
 * may be), and those whose owner is not registered under that incarnation. Called by the leader. */
enum err store_adopt_orphans(struct store *store, size_t *moved) MUST_CHECK;

struct store_fleet_row {
    char *node, *settings; /* owned */
};
struct store_fleet {
    char name[256]; /* "": the fleet has none */
    struct store_fleet_row *rows;
    size_t n;
};
/* Gives the fleet its name unless it has one, publishes the settings of `node` (JSON text), and
 * tells the registered nodes whose settings are others. ERR_REFUSED: the fleet has another name,
 * out->name. name "": any. node "": publishes nothing. store_fleet_fini in each case. */
enum err store_publish_settings(struct store *store, const char *name, const char *node,
                                const char *settings, struct store_fleet *out) MUST_CHECK;
/* The name alone: the same without publishing, and without rows. */
enum err store_set_fleet_name(struct store *store, const char *name,
                              struct store_fleet *out) MUST_CHECK;
void store_fleet_fini(struct store_fleet *fleet);

#define STORE_STRAYS_MAX 16
struct store_strays {
    struct {
        char node[256];
        size_t ids;
    } rows[STORE_STRAYS_MAX];
    size_t n;
};
/* Lists of ids under the names of nodes that are neither registered nor beating lose what is not
 * theirs, in bounded steps; which lists that were, and how many ids. Called by the leader. */
enum err store_clean_strays(struct store *store, struct store_strays *out) MUST_CHECK;

/* ---- wake-ups ------------------------------------------------------------------------------ */

/* Names of channels; owned by the caller. node NULL: something waits; else its set changed.
 * Payloads are empty. */
char *store_wake_channel(const char *key_prefix, const char *node);

#endif
