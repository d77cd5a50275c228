/* Private to src/store: builds a script call, sends it over a pooled connection, and reads the
 * answer. */
#ifndef MQFLEET_STORE_INTERNAL_H
#define MQFLEET_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis/redis.h"
#include "store/store.h"

/* Whether it writes, and whether it runs when Redis is out of memory. */
enum store_script_kind { SCRIPT_READ_ONLY, SCRIPT_WRITES_WHEN_FULL, SCRIPT_REFUSED_WHEN_FULL };

/* X(symbol, name, kind): one row for each file in src/store/lua except common and history. */
#define SCRIPT_TABLE(X)                                                                            \
    X(SCRIPT_APPEND_EVENTS, "append_events", SCRIPT_REFUSED_WHEN_FULL)                             \
    X(SCRIPT_ASSIGN, "assign", SCRIPT_WRITES_WHEN_FULL)                                            \
    X(SCRIPT_AUDIT_PAGE, "audit_page", SCRIPT_READ_ONLY)                                           \
    X(SCRIPT_AUDIT_TRAIL, "audit_trail", SCRIPT_READ_ONLY)                                         \
    X(SCRIPT_CANCEL_OPERATION, "cancel_operation", SCRIPT_WRITES_WHEN_FULL)                        \
    X(SCRIPT_LIST_ASSIGNMENTS, "list_assignments", SCRIPT_WRITES_WHEN_FULL)                        \
    X(SCRIPT_HEARTBEAT, "heartbeat", SCRIPT_WRITES_WHEN_FULL)                                      \
    X(SCRIPT_CHANGES, "changes", SCRIPT_READ_ONLY)                                                 \
    X(SCRIPT_COUNTS, "counts", SCRIPT_READ_ONLY)                                                   \
    X(SCRIPT_COUNT_QUOTAS, "count_quotas", SCRIPT_WRITES_WHEN_FULL)                                \
    X(SCRIPT_CREATE, "create", SCRIPT_REFUSED_WHEN_FULL)                                           \
    X(SCRIPT_CREATE_OPERATION, "create_operation", SCRIPT_WRITES_WHEN_FULL)                        \
    X(SCRIPT_SET_COOLDOWN, "set_cooldown", SCRIPT_WRITES_WHEN_FULL)                                \
    X(SCRIPT_DELETE, "delete", SCRIPT_WRITES_WHEN_FULL)                                            \
    X(SCRIPT_DEAD_LETTERS, "dead_letters", SCRIPT_WRITES_WHEN_FULL)                                \
    X(SCRIPT_DELETE_RESOURCE, "delete_resource", SCRIPT_WRITES_WHEN_FULL)                          \
    X(SCRIPT_DIGEST, "digest", SCRIPT_WRITES_WHEN_FULL)                                            \
    X(SCRIPT_DRAIN, "drain", SCRIPT_WRITES_WHEN_FULL)                                              \
    X(SCRIPT_OWNERSHIP_STATUS, "ownership_status", SCRIPT_WRITES_WHEN_FULL)                        \
    X(SCRIPT_FENCE, "fence", SCRIPT_WRITES_WHEN_FULL)                                              \
    X(SCRIPT_FLEET, "publish_settings", SCRIPT_WRITES_WHEN_FULL)                                   \
    X(SCRIPT_FORWARD_EVENTS, "forward_events", SCRIPT_WRITES_WHEN_FULL)                            \
    X(SCRIPT_GET, "get", SCRIPT_READ_ONLY)                                                         \
    X(SCRIPT_GET_MANY, "get_many", SCRIPT_READ_ONLY)                                               \
    X(SCRIPT_IDENTITY_OWNER, "identity_owner", SCRIPT_READ_ONLY)                                   \
    X(SCRIPT_JOIN, "join", SCRIPT_WRITES_WHEN_FULL)                                                \
    X(SCRIPT_LEAD, "lead", SCRIPT_WRITES_WHEN_FULL)                                                \
    X(SCRIPT_LEAVE, "leave", SCRIPT_WRITES_WHEN_FULL)                                              \
    X(SCRIPT_MARK_LEAVING, "mark_leaving", SCRIPT_WRITES_WHEN_FULL)                                \
    X(SCRIPT_FIND_MISSING, "find_missing", SCRIPT_READ_ONLY)                                       \
    X(SCRIPT_NODES, "nodes", SCRIPT_READ_ONLY)                                                     \
    X(SCRIPT_OPERATION_BATCH, "operation_batch", SCRIPT_READ_ONLY)                                 \
    X(SCRIPT_OPERATION_DELETE, "operation_delete", SCRIPT_WRITES_WHEN_FULL)                        \
    X(SCRIPT_OPERATION_IDS, "operation_ids", SCRIPT_WRITES_WHEN_FULL)                              \
    X(SCRIPT_OPERATION_STEP, "operation_step", SCRIPT_REFUSED_WHEN_FULL)                           \
    X(SCRIPT_LIST_OPERATIONS, "list_operations", SCRIPT_READ_ONLY)                                 \
    X(SCRIPT_ORPHANS, "orphans", SCRIPT_WRITES_WHEN_FULL)                                          \
    X(SCRIPT_PAGE, "page", SCRIPT_READ_ONLY)                                                       \
    X(SCRIPT_PUT_QUOTAS, "put_quotas", SCRIPT_REFUSED_WHEN_FULL)                                   \
    X(SCRIPT_PUT_ROUTES, "put_routes", SCRIPT_REFUSED_WHEN_FULL)                                   \
    X(SCRIPT_PUT_RESOURCE, "put_resource", SCRIPT_REFUSED_WHEN_FULL)                               \
    X(SCRIPT_LIST_QUOTAS, "list_quotas", SCRIPT_READ_ONLY)                                         \
    X(SCRIPT_READ_EVENTS, "read_events", SCRIPT_READ_ONLY)                                         \
    X(SCRIPT_REAP, "reap", SCRIPT_WRITES_WHEN_FULL)                                                \
    X(SCRIPT_REBALANCE, "rebalance", SCRIPT_WRITES_WHEN_FULL)                                      \
    X(SCRIPT_RELEASE, "release", SCRIPT_WRITES_WHEN_FULL)                                          \
    X(SCRIPT_REPORT_QUOTA_USE, "report_quota_use", SCRIPT_WRITES_WHEN_FULL)                        \
    X(SCRIPT_RESTORE, "restore", SCRIPT_WRITES_WHEN_FULL)                                          \
    X(SCRIPT_RESTORE_RESOURCES, "restore_resources", SCRIPT_WRITES_WHEN_FULL)                      \
    X(SCRIPT_ROUTES, "routes", SCRIPT_READ_ONLY)                                                   \
    X(SCRIPT_LIST_RESOURCES, "list_resources", SCRIPT_READ_ONLY)                                   \
    X(SCRIPT_SAVE_HISTORIES, "save_histories", SCRIPT_REFUSED_WHEN_FULL)                           \
    X(SCRIPT_STRAYS, "strays", SCRIPT_WRITES_WHEN_FULL)                                            \
    X(SCRIPT_WAITING_FACTS, "waiting_facts", SCRIPT_READ_ONLY)                                     \
    X(SCRIPT_MARK_STABLE, "mark_stable", SCRIPT_WRITES_WHEN_FULL)                                  \
    X(SCRIPT_UPDATE, "update", SCRIPT_REFUSED_WHEN_FULL)

enum store_script_id {
#define SCRIPT_SYMBOL(symbol, name, kind) symbol,
    SCRIPT_TABLE(SCRIPT_SYMBOL)
#undef SCRIPT_SYMBOL
        SCRIPT_COUNT
};

struct store_script {
    char *text; /* the common files and the script's own file; owned */
    char sha[41];
};

/* See store_share_history. */
struct store_history {
    char caller[TEXT_ID_LEN];
    int64_t restoring_ms;
    _Atomic int64_t next, answered;
    atomic_bool rolled_back;
};

struct store {
    int64_t timeout_ms; /* includes the wait for a free connection. Read-only after open, except: */
    char *prefix;
    char *key; /* the one key each script is routed by */
    struct store_script scripts[SCRIPT_COUNT];
    size_t connections;
    int64_t audit_keep_ms;
    int64_t replicas_min; /* 0: none need to confirm a write */
    int64_t replicas_timeout_ms;
    struct store_history own_history, *history;

    pthread_mutex_t mutex; /* guards everything below; never held during I/O */
    pthread_cond_t returned;
    struct redis **idle; /* connections that are not borrowed */
    size_t idle_count;
    char last_error[STORE_ERROR_LEN]; /* of the last call that failed */
    int64_t full_logged_ms;           /* time of the last warning about a full Redis; 0: never */
    uint64_t orphan_cursor;           /* position of the slow scan over `use` */
    uint64_t stray_cursor;            /* position of the scan over all keys */
};

/* ---- a call -------------------------------------------------------------------------------- */

#define STORE_CALL_ITEM_ARGS_MAX 12 /* of release */
#define STORE_CALL_ARGS_MAX      (24 + STORE_BATCH_MAX * STORE_CALL_ITEM_ARGS_MAX)
#define STORE_CALL_NUMBERS_MAX   (12 + STORE_BATCH_MAX * 4)

/* The consequence if too few replicas confirm a write in time. */
enum store_replication {
    STORE_REPLICATION_IGNORED, /* nothing: it is found or made again */
    STORE_REPLICATION_LOGGED,  /* it is logged */
    STORE_REPLICATION_REQUIRED /* the call returns ERR_TIMEOUT: it may be lost */
};

/* Strings are borrowed until store_call_run has returned. */
struct store_call {
    enum store_script_id script;
    enum store_replication replication;
    int argc;
    size_t number_count;
    bool retried; /* the first connection broke: the script may have run twice */
    const char *argv[STORE_CALL_ARGS_MAX];
    char numbers[STORE_CALL_NUMBERS_MAX][21];
};

void store_call_begin(struct store_call *call, const struct store *store,
                      enum store_script_id script);
void store_call_str(struct store_call *call, const char *text);
void store_call_int(struct store_call *call, int64_t number);
void store_call_member(struct store_call *call, const struct store_member *member);

/* Runs the script. *reply is NULL or owned by the caller, whatever is returned; element 0 is the
 * word of the status, the answer follows. A broken connection is retried once, because scripts are
 * idempotent. */
enum err store_call_run(struct store *store, struct store_call *call,
                        struct redis_reply **reply) MUST_CHECK;

/* For calls of which only the status matters. */
enum err store_call_run_plain(struct store *store, struct store_call *call) MUST_CHECK;

/* The number of the remaining n - at items for the next call. */
size_t store_batch_len(size_t at, size_t n);

/* ---- reading answers ----------------------------------------------------------------------- */

/* A number in an answer; 0 if the answer is NULL. */
int64_t store_reply_int(const struct redis_reply *reply, size_t index);
/* A string in an answer; *out NULL for nil. */
enum err store_reply_text(const struct redis_reply *reply, char **out) MUST_CHECK;
uint64_t store_reply_cursor(const struct redis_reply *reply);
/* The answer of describe() in common/records.lua. After an error *out is empty. */
enum err store_reply_client(const struct redis_reply *reply, struct store_client *out) MUST_CHECK;
/* Conversion of a cursor. */
void store_call_cursor(struct store_call *call, uint64_t cursor);

#endif
