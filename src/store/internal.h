/* Private to src/store: a script call put together, sent over a pooled connection, and its answer
 * read. */
#ifndef MQFLEET_STORE_INTERNAL_H
#define MQFLEET_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "net/redis.h"
#include "store/store.h"

/* Whether it writes, and then what becomes of it when Redis is out of memory. */
enum script_kind { SCRIPT_READS, SCRIPT_GOES_ON, SCRIPT_REFUSED };

/* X(symbol, name, kind): one row for each file in src/store/lua but common and history. */
#define SCRIPT_TABLE(X)                                                                            \
    X(SCRIPT_ASSIGN, "assign", SCRIPT_GOES_ON)                                                     \
    X(SCRIPT_ASSIGNED, "assigned", SCRIPT_GOES_ON)                                                 \
    X(SCRIPT_BEAT, "beat", SCRIPT_GOES_ON)                                                         \
    X(SCRIPT_CHANGES, "changes", SCRIPT_READS)                                                     \
    X(SCRIPT_COUNTS, "counts", SCRIPT_READS)                                                       \
    X(SCRIPT_CREATE, "create", SCRIPT_REFUSED)                                                     \
    X(SCRIPT_DEFER, "defer", SCRIPT_GOES_ON)                                                       \
    X(SCRIPT_DELETE, "delete", SCRIPT_GOES_ON)                                                     \
    X(SCRIPT_DIGEST, "digest", SCRIPT_GOES_ON)                                                     \
    X(SCRIPT_DRAIN, "drain", SCRIPT_GOES_ON)                                                       \
    X(SCRIPT_EVIDENCE, "evidence", SCRIPT_GOES_ON)                                                 \
    X(SCRIPT_FENCE, "fence", SCRIPT_GOES_ON)                                                       \
    X(SCRIPT_FLEET, "fleet", SCRIPT_GOES_ON)                                                       \
    X(SCRIPT_GET, "get", SCRIPT_READS)                                                             \
    X(SCRIPT_HOLDER, "holder", SCRIPT_READS)                                                       \
    X(SCRIPT_JOIN, "join", SCRIPT_GOES_ON)                                                         \
    X(SCRIPT_LEAD, "lead", SCRIPT_GOES_ON)                                                         \
    X(SCRIPT_LEAVE, "leave", SCRIPT_GOES_ON)                                                       \
    X(SCRIPT_LEAVING, "leaving", SCRIPT_GOES_ON)                                                   \
    X(SCRIPT_LOOK, "look", SCRIPT_READS)                                                           \
    X(SCRIPT_NODES, "nodes", SCRIPT_READS)                                                         \
    X(SCRIPT_ORPHANS, "orphans", SCRIPT_GOES_ON)                                                   \
    X(SCRIPT_PAGE, "page", SCRIPT_READS)                                                           \
    X(SCRIPT_REAP, "reap", SCRIPT_GOES_ON)                                                         \
    X(SCRIPT_RELEASE, "release", SCRIPT_GOES_ON)                                                   \
    X(SCRIPT_RESTORE, "restore", SCRIPT_GOES_ON)                                                   \
    X(SCRIPT_STRAYS, "strays", SCRIPT_GOES_ON)                                                     \
    X(SCRIPT_SUCCEEDED, "succeeded", SCRIPT_GOES_ON)                                               \
    X(SCRIPT_UPDATE, "update", SCRIPT_REFUSED)

enum script {
#define SCRIPT_SYMBOL(symbol, name, kind) symbol,
    SCRIPT_TABLE(SCRIPT_SYMBOL)
#undef SCRIPT_SYMBOL
        SCRIPT_COUNT
};

struct store_script {
    char *text; /* common.lua and the script's own file; owned */
    char sha[41];
};

/* See store_share_history. */
struct store_history {
    char caller[TEXT_ID_LEN];
    int64_t restoring_ms;
    _Atomic int64_t next, answered;
    atomic_bool went_back;
};

struct store {
    int64_t
        timeout_ms; /* of the wait for a free connection; the rest is read-only after open, but: */
    char *prefix;
    char *key; /* the one key each script is routed by */
    struct store_script scripts[SCRIPT_COUNT];
    size_t connections;
    int64_t replicas_min; /* 0: none need to have a write */
    int64_t replicas_timeout_ms;
    struct store_history own_history, *history;

    pthread_mutex_t mutex; /* guards all below; never held over I/O */
    pthread_cond_t freed;
    struct redis **free; /* those nobody has borrowed */
    size_t free_count;
    char trouble[STORE_TROUBLE_LEN]; /* of the last call that failed */
    int64_t full_ms;        /* when it was last said that Redis is out of memory; 0: never */
    uint64_t orphan_cursor; /* where the slow sweep over `use` goes on */
    uint64_t stray_cursor;  /* and the one over all keys */
};

/* ---- a call -------------------------------------------------------------------------------- */

#define CALL_ITEM_ARGS_MAX 9 /* of release */
#define CALL_ARGS_MAX      (24 + STORE_BATCH_MAX * CALL_ITEM_ARGS_MAX)
#define CALL_NUMBERS_MAX   (12 + STORE_BATCH_MAX * 4)

/* What has to become of a write when too few replicas have it in time. */
enum call_copies {
    COPIES_ANY,     /* nothing: it is found again, or made again */
    COPIES_LOGGED,  /* it is said in the log */
    COPIES_REQUIRED /* the call answers ERR_TIMEOUT: it may be lost with this Redis */
};

/* Strings are borrowed until call_run has returned. */
struct call {
    enum script script;
    enum call_copies copies;
    int argc;
    size_t number_count;
    bool repeated; /* the connection broke the first time: the script may have run twice */
    const char *argv[CALL_ARGS_MAX];
    char numbers[CALL_NUMBERS_MAX][21];
};

void call_begin(struct call *call, const struct store *store, enum script script);
void call_str(struct call *call, const char *text);
void call_int(struct call *call, int64_t number);
void call_member(struct call *call, const struct store_member *member);

/* Runs the script. *reply is NULL or the caller's to free, whatever is returned; element 0 is the
 * word that made the result, the answer follows. A broken connection is tried once more: scripts
 * are idempotent. */
enum err call_run(struct store *store, struct call *call, struct redis_reply **reply) MUST_CHECK;

/* For those of which only the result matters. */
enum err call_run_plain(struct store *store, struct call *call) MUST_CHECK;

/* How many of the n - at items that are left go into the next call. */
size_t batch_len(size_t at, size_t n);

/* ---- what answers hold --------------------------------------------------------------------- */

/* A number in an answer; 0 when the answer is NULL. */
int64_t answer_int(const struct redis_reply *reply, size_t index);
/* A string of an answer; *out NULL for nil. */
enum err reply_text(const struct redis_reply *reply, char **out) MUST_CHECK;
uint64_t reply_cursor(const struct redis_reply *reply);
/* What common.lua's describe() made. On an error *out is empty. */
enum err reply_client(const struct redis_reply *reply, struct store_client *out) MUST_CHECK;
/* Into the scanned hash and back. */
void call_cursor(struct call *call, uint64_t cursor);

#endif
