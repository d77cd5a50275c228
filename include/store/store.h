/* The shared state of the fleet in Redis. Each transition is one typed function and one Lua script
 * that is idempotent and fenced (see docs/protocol.md). Configurations are opaque here.
 *
 * A store owns a pool of connections. Any thread may call; each call borrows one connection and
 * waits for a free one within the Redis timeout. Errors of all functions: ERR_UNAVAILABLE,
 * ERR_TIMEOUT (outcome unknown: call again), ERR_PROTOCOL (a script failed; logged), ERR_MEMORY.
 * When Redis is out of memory, create and update return ERR_FULL and change nothing; all other
 * calls still work. */
#ifndef MQFLEET_STORE_STORE_H
#define MQFLEET_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/text.h"
#include "net/redis/redis_info.h"
#include "store/resources.h"

#define STORE_BATCH_MAX 200 /* ids per script call; longer lists are split into several calls */

struct store;

/* key_prefix "" for none. connections: 1 or more, opened when first needed. */
struct store *store_open(const char *url, const char *key_prefix, int64_t timeout_ms,
                         size_t connections);
void store_close(struct store *store);
/* From now on create, update and delete return ERR_TIMEOUT (outcome unknown; calling again is safe)
 * unless that many replicas confirm the write within timeout_ms (WAIT). For an assignment this is
 * only logged. 0: disabled. Call before other threads do. */
void store_require_replicas(struct store *store, int64_t replicas_min, int64_t timeout_ms);
enum err store_ping(struct store *store) MUST_CHECK;

/* Detects a Redis that lost data: each changing call presents the number of an answered one. From
 * now on `store` shares the numbers of `with`, which must outlive it. restoring_ms: for how long
 * nothing is assigned after a loss. Call before other threads do. */
void store_share_history(struct store *store, struct store *with);
void store_set_restoring_ms(struct store *store, int64_t restoring_ms);
/* True if a loss was noticed since the last call of this function. Any thread. */
bool store_noticed_rollback(struct store *store);
/* ERR_REFUSED: INFO is not permitted; store_last_error has the reason. */
enum err store_redis_info(struct store *store, struct redis_info *out) MUST_CHECK;

#define STORE_ERROR_LEN 256
/* The server and cause of the last failed call, for an operator; "" if none failed. No secret. */
void store_last_error(struct store *store, char out[STORE_ERROR_LEN]);

/* ---- one client ---------------------------------------------------------------------------- */

enum store_client_state { STORE_ABSENT, STORE_WAITING, STORE_OWNED };

/* The owner of an id. Strings are owned by the containing record. */
struct store_owner {
    char *node;
    char *incarnation;
    int64_t epoch;    /* like microseconds; grows with every assignment */
    int64_t since_ms; /* Redis wall clock of the assignment */
};

/* Everything that is known about one id. Strings are owned; store_client_fini. */
struct store_client {
    char *id;
    enum store_client_state state;
    char *config; /* as written; any text if it was written by hand */
    size_t config_len;
    int64_t version;          /* time of the write in ms, or more; 1: by hand */
    struct store_owner owner; /* node NULL unless STORE_OWNED */
    int64_t attempts;         /* failed attempts since it was last stable */
    char *attempt_code;       /* of the last attempt, NULL: none; e.g. "taken_over" */
    char *attempt_error;      /* which of the errors with that code, NULL: unknown */
    char *attempt_message;
    char *attempt_node;
    char *identity;  /* as stored, of a client with a profile; otherwise "" */
    char *denied_by; /* incarnations of nodes that may not reach its broker */
    char *history;   /* of the client until it was last stored; only by store_get. NULL: none */
    int64_t attempt_at_ms; /* Redis wall clock, 0: none */
    int64_t cooldown_ms;   /* remaining delay before it can be assigned; 0: none */
};
void store_client_fini(struct store_client *client);

/* ERR_NOT_FOUND: STORE_ABSENT. An id in `use` without a valid owner record counts as STORE_WAITING,
 * here and in pages, because it will wait soon. */
enum err store_get(struct store *store, const char *id, struct store_client *out) MUST_CHECK;

/* The same for many ids, in no order; ids that do not exist are left out. store_clients_free. */
enum err store_get_many(struct store *store, const char *const *ids, size_t n,
                        struct store_client **rows, size_t *row_count) MUST_CHECK;

/* The id that has this identity (see struct store_create_item); the caller frees it. ERR_NOT_FOUND:
 * none. */
enum err store_identity_owner(struct store *store, const char *identity, char **id) MUST_CHECK;

/* A page of waiting (STORE_WAITING) or owned (STORE_OWNED) ids in no order, by HSCAN. An id that
 * exists during the whole scan is returned at least once. *cursor: 0 to begin; 0 after the call:
 * the end. A page has about `count` rows, sometimes more, sometimes none. redis_ms (may be NULL):
 * the server's clock. */
enum err store_page(struct store *store, enum store_client_state where, uint64_t *cursor,
                    size_t count, struct store_client **rows, size_t *row_count,
                    int64_t *redis_ms) MUST_CHECK;
void store_clients_free(struct store_client *rows, size_t row_count);
enum store_facts { STORE_FACTS_CONFIGS = 1, STORE_FACTS_VERSIONS = 2 };
/* A page of waiting ids as above, several times faster: without a part of what is known of them. A
 * config that is not in `wanted` (enum store_facts) is empty, and a version may be 0. */
enum err store_waiting_facts(struct store *store, unsigned wanted, uint64_t *cursor,
                             struct store_client **rows, size_t *row_count) MUST_CHECK;

struct store_counts {
    int64_t waiting;      /* owned by no node */
    int64_t cooling_down; /* part of these: delayed */
    int64_t owned;
};
/* After an error *out is zero. */
enum err store_counts(struct store *store, struct store_counts *out) MUST_CHECK;

/* ---- create, update, delete ---------------------------------------------------------------- */

struct store_create_item {
    const char *id;
    const char *config;   /* canonical JSON text: equal texts are the same configuration */
    const char *identity; /* broker and MQTT client identifier, e.g. "10.0.0.1:1883/dev-7" */
    const char *record;   /* for the audit trail: a JSON object in one line; NULL: none */
};

enum store_create_outcome {
    STORE_CREATED,
    STORE_UNCHANGED,
    STORE_OTHER_CONFIG,
    STORE_IDENTITY_TAKEN,
    STORE_OVER_QUOTA
};

struct store_create_result {
    enum store_create_outcome outcome;
    int64_t version; /* STORE_OVER_QUOTA: the number of clients that are allowed */
    char *other_id;  /* STORE_IDENTITY_TAKEN: the other id. STORE_OVER_QUOTA: the scope. Owned, the
                        caller frees it */
};

/* results[n]. After an error the remaining items are not tried; *done is the number of results.
 * Calling again with the same items is safe. Wakes the leader. */
enum err store_create(struct store *store, const struct store_create_item *items, size_t n,
                      struct store_create_result *results, size_t *done) MUST_CHECK;

/* A configuration that replaces another one. All borrowed. */
struct store_configuration {
    const char *id;
    int64_t expected_version;      /* 0: any */
    const char *config, *identity; /* as in struct store_create_item */
    const char *record;            /* as there */
};
/* ERR_NOT_FOUND, ERR_VERSION, ERR_EXISTS (identity taken: *other_id, owned). The same text under
 * the version that it would replace is ERR_OK without a new version; only its
 * identity is stored. */
enum err store_update(struct store *store, const struct store_configuration *configuration,
                      int64_t *version, char **other_id) MUST_CHECK;
/* ERR_NOT_FOUND, ERR_VERSION. Leaves a tombstone for an hour. record: as above. */
enum err store_delete(struct store *store, const char *id, int64_t expected_version,
                      const char *record) MUST_CHECK;

/* For how long records of changes and ended operations are kept; 0, the default: no records. Call
 * before other threads do. */
void store_set_audit_keep_ms(struct store *store, int64_t keep_ms);
struct store_audit_record {
    int64_t at_ms;    /* Redis wall clock */
    int64_t from, to; /* versions; to 0: it was deleted */
    char *record;     /* owned */
};
/* The last changes of a client, the oldest first. ERR_NOT_FOUND: there is no such client, and no
 * record of one. store_audit_free. */
enum err store_audit_trail(struct store *store, const char *id, struct store_audit_record **records,
                           size_t *n) MUST_CHECK;
void store_audit_free(struct store_audit_record *records, size_t n);

/* An id whose configuration was changed, and its records, the oldest first. */
struct store_audited {
    char *id;      /* owned */
    int64_t at_ms; /* of the last change */
    struct store_audit_record *records;
    size_t n;
};
/* The ids that were changed last, the latest first: at most STORE_BATCH_MAX, behind the one with
 * that time and id. after NULL: from the first. *n below STORE_BATCH_MAX: the last page.
 * store_audit_page_free. */
enum err store_audit_page(struct store *store, int64_t at_ms, const char *after,
                          struct store_audited **out, size_t *n) MUST_CHECK;
void store_audit_page_free(struct store_audited *rows, size_t n);

/* ---- nodes --------------------------------------------------------------------------------- */

struct store_member { /* the calling node; all borrowed */
    const char *node;
    const char *incarnation;
};

enum store_node_state {
    STORE_NODE_LIVE,
    STORE_NODE_DRAINING,
    STORE_NODE_LEAVING, /* it stops, and releases its clients */
    STORE_NODE_DEAD
};
const char *store_node_state_name(enum store_node_state state); /* "live" "draining" ... */

struct store_node {
    char *name, *host, *type, *incarnation, *version; /* owned; never NULL */
    int64_t port, size, clients, started_at_ms;
    enum store_node_state state;
    bool heartbeat_valid;     /* it has a heartbeat of this incarnation */
    int64_t heartbeat_age_ms; /* from its time to live; -1: no heartbeat */
    char *facts;              /* facts of its last heartbeat (JSON); owned, NULL: none */
};
/* All registered nodes, sorted by name. Entries of other programs (Go IoT, or by hand) have an
 * empty incarnation and beating false. leader (may be NULL): owned name or NULL. heartbeat_ttl_ms:
 * converts times to live into ages. */
enum err store_nodes(struct store *store, int64_t heartbeat_ttl_ms, struct store_node **nodes,
                     size_t *n, char **leader) MUST_CHECK;
/* The node of that name, if registered, and the nodes that announce that port. Reads each entry, so
 * it is expensive. Each node calls it when it joins. */
enum err store_nodes_named(struct store *store, int64_t heartbeat_ttl_ms, const char *name,
                           struct store_node **nodes, size_t *n) MUST_CHECK;
enum err store_nodes_at_port(struct store *store, int64_t heartbeat_ttl_ms, int64_t port,
                             struct store_node **nodes, size_t *n) MUST_CHECK;
void store_nodes_free(struct store_node *nodes, size_t n);
/* True if both nodes have a heartbeat and announce the same host and port. Requests to one may then
 * reach the other. */
bool store_node_shares_address(const struct store_node *a, const struct store_node *b);

struct store_missing {        /* a registered node without its heartbeat */
    char *name, *incarnation; /* owned; the incarnation is "" for a node of another program */
    enum store_node_state state;
};
/* Lists the missing heartbeats; *all: number of registered nodes. store_missing_free. */
enum err store_find_missing(struct store *store, struct store_missing **missing, size_t *n,
                            size_t *all) MUST_CHECK;
void store_missing_free(struct store_missing *missing, size_t n);

struct store_join {
    struct store_member member;
    const char *host, *type, *version;
    int64_t port, size, started_at_ms, heartbeat_ttl_ms;
    bool draining;
    bool rejoin;       /* this incarnation was registered, and Redis has lost it or other data */
    const char *facts; /* as in store_heartbeat; NULL: none, the node can run all clients */
};
/* Reaps the clients of an earlier incarnation, registers, and writes a heartbeat. ERR_EXISTS: a
 * live node has that name. ERR_FENCED: this incarnation was declared dead; use a new one.
 * generation (TEXT_ID_LEN bytes) is created if missing, and returned. Idempotent. After Redis has
 * lost data, a node registers again with this function and then calls store_restore. */
enum err store_join(struct store *store, const struct store_join *join,
                    char generation[TEXT_ID_LEN]) MUST_CHECK;

#define STORE_UNPLACED_LEN 512

struct store_heartbeat {
    int64_t rev;      /* of this node's set, see struct store_set */
    int64_t redis_ms; /* wall clock of the server */
    bool draining;
    bool candidate_wanted; /* there is no leader, or fewer than two standbys */
    int64_t nodes;         /* registered nodes, including this one */
    struct store_counts counts;
    /* Why clients wait, as counted by the leader within the last seconds: JSON, "": unknown. */
    char unplaced[STORE_UNPLACED_LEN];
    int64_t resources_revision; /* changes with the sinks, profiles and routes */
    int64_t rebalance_rate;     /* clients/s that an operator asked to move; 0: no request */
    bool restoring;             /* nodes restore clients that Redis has lost */
};
/* facts: JSON text for the leader. ERR_FENCED: declared dead: drop everything. ERR_WRONG_STATE:
 * Redis lost data (the generation or this incarnation is unknown): join again and restore. */
enum err store_heartbeat(struct store *store, const struct store_member *member,
                         const char *generation, int64_t heartbeat_ttl_ms, const char *facts,
                         struct store_heartbeat *out) MUST_CHECK;

/* Marks `target` dead. ERR_REFUSED: it has a heartbeat or another incarnation, or the caller has no
 * heartbeat. Already dead is ERR_OK. */
enum err store_fence(struct store *store, const struct store_member *caller,
                     const struct store_member *target) MUST_CHECK;
/* Makes up to STORE_BATCH_MAX ids of a dead node wait; *moved: how many; *finished: nothing is left
 * and the node is removed from the register. ERR_REFUSED: not dead, or another incarnation. */
enum err store_reap(struct store *store, const struct store_member *target, size_t *moved,
                    bool *finished) MUST_CHECK;
/* From now on nothing is assigned to the member. ERR_FENCED. */
enum err store_mark_leaving(struct store *store, const struct store_member *member) MUST_CHECK;
/* ERR_REFUSED: it still owns ids. Already removed is ERR_OK. */
enum err store_leave(struct store *store, const struct store_member *member) MUST_CHECK;
/* Asks all nodes to level their numbers of clients, with so many moves per second in the fleet; 0
 * ends the request. It also ends when no node has renewed it for STORE_REBALANCE_MS. */
#define STORE_REBALANCE_MS 30000
enum err store_rebalance(struct store *store, int64_t rate) MUST_CHECK;
enum err store_renew_rebalance(struct store *store) MUST_CHECK;
/* Sets or clears draining, also for later processes of that name. ERR_OK when a node that is not
 * registered is no longer drained. ERR_NOT_FOUND; ERR_REFUSED: dead or leaving. */
enum err store_drain(struct store *store, const char *node, bool draining) MUST_CHECK;

enum store_role { STORE_ROLE_NONE, STORE_ROLE_STANDBY, STORE_ROLE_LEADER };
/* Makes the node leader, or one of two standbys, for ttl_ms, or renews this role. unplaced: for
 * struct store_counts, stored if it leads; "": unknown. */
enum err store_lead(struct store *store, const struct store_member *member, int64_t ttl_ms,
                    const char *unplaced, enum store_role *role) MUST_CHECK;
/* Resigns as leader or standby. */
enum err store_resign(struct store *store, const struct store_member *member) MUST_CHECK;

/* ---- assign and release -------------------------------------------------------------------- */

enum store_assign_outcome {
    STORE_ASSIGNED,        /* newly, or already to this incarnation */
    STORE_ASSIGN_GONE,     /* not waiting: deleted, or owned by another */
    STORE_ASSIGN_FULL,     /* the target is at its size */
    STORE_ASSIGN_COOLDOWN, /* delayed */
    STORE_ASSIGN_IDENTITY  /* another id has its broker and client identifier */
};

struct store_assign_item {
    const char *id;
    const char *identity;     /* "": unknown */
    int64_t identity_version; /* of the client: it has this identity, which a profile may have
                                 changed; 0: the stored one holds */
};

struct store_assign_result {
    enum store_assign_outcome outcome;
    int64_t epoch; /* of STORE_ASSIGNED */
};
/* Assigns waiting clients to `target`. This wakes the target, which reads them with store_changes.
 * ERR_FENCED: not registered with this incarnation, dead, or without a heartbeat. ERR_REFUSED:
 * draining or leaving. ERR_WRONG_STATE: Redis lost data, and nodes restore their clients.
 * results[n]; *done as in store_create. */
enum err store_assign(struct store *store, const struct store_member *target,
                      const struct store_assign_item *items, size_t n,
                      struct store_assign_result *results, size_t *done) MUST_CHECK;

struct store_release_item {
    const char *id;
    int64_t epoch;
    int64_t version;         /* that ran; 0: none, or unknown */
    int64_t delay_ms;        /* not assigned before this delay has passed; 0: at once */
    int64_t cooldown_ms_max; /* 0, or more than delay_ms: doubles the last cool-down up to this */
    const char *code;        /* reason: "stopping" "drained" "taken_over" ... */
    const char *message;     /* "" or more detail */
    const char *error;       /* which of the errors with that code; NULL: not a client error */
    bool failed;             /* counts as a failed attempt: another node is preferred */
    struct store_member target; /* node NULL: none. Otherwise it is assigned to this node at once,
                                   if it accepts it and delay_ms is 0 */
    const char *history;        /* for the next node; NULL: as stored */
};
/* Skips items that this member does not own at that epoch. Also skips items whose version is newer
 * than in Redis, which lost data: they must be restored first. *released: how many moved. Wakes the
 * leader. */
enum err store_release(struct store *store, const struct store_member *member,
                       const struct store_release_item *items, size_t n,
                       size_t *released) MUST_CHECK;

struct store_history_item { /* all borrowed */
    const char *id;
    int64_t epoch;
    const char *history; /* any text without a NUL */
};
/* Stores what clients have done so far. Skips items that this member does not own at that epoch. */
enum err store_save_histories(struct store *store, const struct store_member *member,
                              const struct store_history_item *items, size_t n) MUST_CHECK;

/* Delays a waiting id by delay_ms and stores the reason, such as an invalid configuration. No
 * effect on an id that is not waiting. again (may be NULL): the same reason was stored for the same
 * configuration before. */
enum err store_set_cooldown(struct store *store, const char *id, int64_t delay_ms, const char *code,
                            const char *message, bool *again) MUST_CHECK;
/* Forgets failed attempts when a connection has proved stable. The length of a cool-down is
 * forgotten only after a stable period twice as long. n may be any number. */
enum err store_mark_stable(struct store *store, const struct store_member *member,
                           const char *const *ids, size_t n) MUST_CHECK;

/* ---- reconciling a node with the clients that it should run ---------------------------------- */

/* The state of a node's set of clients. */
struct store_set {
    int64_t rev;     /* grows with every change by anyone */
    int64_t gap_rev; /* changes up to this rev are incomplete: the whole list must be read */
    int64_t digest;  /* of all owned clients, see store_digest_add */
    bool restoring;  /* Redis lost data: only clients that already run may run */
};

struct store_change {
    int64_t rev;
    char *id;               /* owned */
    int64_t epoch, version; /* epoch 0: not this member's (any longer) */
    char *config;           /* owned; NULL unless this member's */
    size_t config_len;
    char *identity; /* owned; as stored, of a client with a profile; otherwise "" or NULL */
    char *history;  /* owned; of the client until now, NULL: none */
};
/* A page of the changes after `applied`, the oldest first; last: the last row of the previous page,
 * NULL for the first. *n 0: the end. Redis forgets the changes up to `applied`. store_changes_free.
 * ERR_FENCED: dead, unknown, or another incarnation. */
enum err store_changes(struct store *store, const struct store_member *member, int64_t applied,
                       const struct store_change *last, struct store_set *set,
                       struct store_change **rows, size_t *n) MUST_CHECK;
void store_changes_free(struct store_change *rows, size_t n);

struct store_assignment {
    char *id; /* owned */
    int64_t epoch;
    int64_t version;
};
/* Everything that this member owns. In *set only restoring and rev, read before the list, are
 * valid. ERR_FENCED as store_changes. */
enum err store_list_assignments(struct store *store, const struct store_member *member,
                                struct store_assignment **rows, size_t *n,
                                struct store_set *set) MUST_CHECK;
void store_assignments_free(struct store_assignment *rows, size_t n);

/* The sum modulo 2^48 of the first 12 hexadecimal digits of sha1("id\nepoch\nversion") over all
 * clients. Starts at 0; the order does not matter. */
int64_t store_digest_add(int64_t digest, const char *id, int64_t epoch, int64_t version);
/* Replaces the stored digest by that of the whole list, read at `rev`. ERR_WRONG_STATE: the list
 * has changed since. */
enum err store_save_digest(struct store *store, const struct store_member *member, int64_t rev,
                           int64_t digest) MUST_CHECK;

enum store_ownership_status {
    STORE_OWNERSHIP_NONE,     /* lost: no record of the id, or only an older one */
    STORE_OWNERSHIP_MINE,     /* owned by this member at this epoch with this version */
    STORE_OWNERSHIP_STALE,    /* owned by this member, with a newer epoch or version */
    STORE_OWNERSHIP_NEWER,    /* owned by another node at a newer epoch */
    STORE_OWNERSHIP_OLDER,    /* known with an older epoch or version: Redis lost data */
    STORE_OWNERSHIP_WAITING,  /* it was released and waits */
    STORE_OWNERSHIP_TOMBSTONE /* it was deleted */
};
struct store_held {
    const char *id; /* borrowed */
    int64_t epoch, version;
};
/* Compares clients that this member runs with Redis: statuses[n]. */
enum err store_ownership_status(struct store *store, const struct store_member *member,
                                const struct store_held *held, size_t n,
                                enum store_ownership_status *statuses) MUST_CHECK;

#define STORE_RESTORE_MAX 20 /* texts may be long: few fit into one call */
struct store_restore_item {
    const char *id;
    int64_t epoch;
    const char *config;
    const char *identity;
    int64_t version;
};
struct store_restore_result {
    bool mine;              /* owned by the member (again), with this epoch and version */
    int64_t epoch, version; /* differs from the given version if Redis has a newer configuration */
};
/* Restores running clients. Not mine: there is a tombstone, or an owner that is not older; it waits
 * with a configuration written by hand; or another id has its identity (then it waits). A
 * configuration newer than the one in Redis is always kept. ERR_FENCED: the member is not
 * registered. *done: number of results. */
enum err store_restore(struct store *store, const struct store_member *member,
                       const struct store_restore_item *items, size_t n,
                       struct store_restore_result *results, size_t *done) MUST_CHECK;

/* Returns owned ids that no node can run to waiting, in bounded steps; *moved: how many. These are
 * ids without an owner record (left by Go IoT, or by hand; not while a Go IoT node is alive, which
 * may own them), and ids whose owner is not registered under that incarnation. Called by the
 * leader. */
enum err store_adopt_orphans(struct store *store, size_t *moved) MUST_CHECK;

struct store_fleet_row {
    char *node, *settings; /* owned */
};
/* A node that ended without leaving within the last hour: killed, or cut off. */
struct store_vanished {
    char *node;      /* owned */
    int64_t ago_ms;  /* since it was declared dead */
    int64_t clients; /* that it had */
};
struct store_fleet {
    char name[256]; /* "": the fleet has no name */
    struct store_fleet_row *rows;
    size_t n;
    struct store_vanished *vanished;
    size_t vanished_count;
};
/* Gives the fleet its name unless it has one, publishes the settings of `node` (JSON text), and
 * returns the registered nodes with different settings. ERR_REFUSED: the fleet has another name,
 * out->name. name "": any. node "": publishes nothing. The caller always calls store_fleet_fini. */
enum err store_publish_settings(struct store *store, const char *name, const char *node,
                                const char *settings, struct store_fleet *out) MUST_CHECK;
/* Checks only the name: no publishing, no rows. */
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
/* Removes ids from the lists of nodes that are neither registered nor alive if they do not belong
 * there, in bounded steps. Returns these lists and how many ids were removed. Called by the leader.
 */
enum err store_clean_strays(struct store *store, struct store_strays *out) MUST_CHECK;

/* ---- wake-ups ------------------------------------------------------------------------------ */

/* The name of a channel, owned by the caller. node NULL: the channel for waiting clients; otherwise
 * the one for changes of the node's set. Payloads are empty. */
char *store_wake_channel(const char *key_prefix, const char *node);

#endif
