/* The contract between nodes (docs/protocol.md) as a model for Spin: assign, beat, expiry,
 * suspicion, fence, reap, pause, lost reply, restart, graceful release. README.md says what is
 * abstracted and why that is sound; `run` verifies it and its mutations.
 *
 * A script is one atomic step, as in Redis. Between two scripts, and between the steps of a
 * connection, anybody else may come in. */

/* ---- size and variant ---------------------------------------------------------------------------- */

#ifndef PROCESSES /* 2 or 3 */
#define PROCESSES 2
#endif
#ifndef CLIENTS /* 1 or 2 */
#define CLIENTS 2
#endif
#ifndef JOINS /* in one run, after the fleet has formed */
#define JOINS 1
#endif
#ifndef EPOCHS /* of one client in one run */
#define EPOCHS 3
#endif
#ifndef FEWER /* by so many the second client has fewer */
#define FEWER 0
#endif
#ifndef FAULTS /* in one run of the timely model */
#define FAULTS 2
#endif

/* TWIN: the last process has the name of the first, and is yet to join. */
#ifdef TWIN
#define NAMES   (PROCESSES - 1)
#define NAME(p) ((p) % NAMES)
#else
#define NAMES   PROCESSES
#define NAME(p) (p)
#endif

#ifdef NO_EPOCH
#define NO_EPOCH_RELEASE
#define NO_EPOCH_REAP
#endif

/* TIMELY, for L: who runs beats in time, pauses are explicit, faults are counted and so cease.
 * Otherwise everybody may be late by any time at any step, which includes every pause. */
#ifdef TIMELY
#define MAY_FAIL (faults > 0)
#define FAIL     faults--
#define RUNS(p)  (!paused[p])
#else
#define MAY_FAIL true
#define FAIL     skip
#define RUNS(p)  true
#endif

#include "redis.pml"

/* ---- whoever leads ------------------------------------------------------------------------------- */

byte suspect[NAMES];    /* incarnation that a first look has missed, 0: none */
#ifdef NO_EPOCH_REAP
bit reaping[NAMES];     /* a reap of some incarnation may be under way */
#endif

/* ---- processes ----------------------------------------------------------------------------------- */

#define DOWN     0
#define OUTSIDE  1
#define MEMBER   2
#define CUT_OFF  3      /* fenced and told so, its connections yet to be dropped */
#define STOPPING 4      /* all closed, releasing and leaving */
#ifdef TIMELY
#define GONE DOWN       /* it may stay so for ever */
#else
#define GONE OUTSIDE    /* when it starts again is as open as when it joins */
#endif
byte state[PROCESSES];
byte inc[PROCESSES];

#define LAPSED 0
#define OLD    1        /* of a beat before the present suspicion */
#define VALID  2
byte lease[PROCESSES];
#ifdef ONLY_S1 /* leases change nothing in Redis */
#define GIVEN LAPSED
#else
#define GIVEN VALID
#endif
#define GIVEN_TO(p) (state[p] == MEMBER -> GIVEN : LAPSED)

#define CLOSED  0       /* to be opened */
#define OPENING 1
#define OPEN    2
#define QUIET   3       /* given up: closed, opens nothing */
#define AT(p, c) ((p) * CLIENTS + (c))
#define PAIRS    (PROCESSES * CLIENTS)
byte found[PAIRS];      /* epoch that was read, workers_start yet to be called */
byte runs[PAIRS];       /* epoch that runs, 0: does not */
byte conn[PAIRS];
byte rel[PAIRS];        /* epoch to be released */

#ifdef TIMELY
bit paused[PROCESSES];
byte faults = FAULTS;
#endif

/* ---- what must hold ------------------------------------------------------------------------------ */

#if defined(ONLY_S2) || defined(TIMELY)
#define CHECK_S1 skip
#elif CLIENTS == 2
#define CHECK_S1 assert(S1(0)); assert(S1(1))
#else
#define CHECK_S1 assert(S1(0))
#endif

/* S2: who begins to connect owns the client at its newest epoch ... */
#define OWNS(p, c) (in_use[c] && owner_inc[c] == inc[p] && epoch[c] == runs[AT(p, c)])
#ifdef TIMELY
#define CHECK_S2(p, c)          skip
#define CHECK_ALTERNATING(p, c) skip
#else
#define CHECK_S2(p, c)          assert(OWNS(p, c))
#define CHECK_ALTERNATING(p, c) assert(!overlapped[AT(p, c)])
#endif
/* ... and a connection begun before a newer epoch was connected takes over once, never again. */
byte connected[CLIENTS]; /* the newest epoch that ever was */
bit overlapped[PAIRS];

#define LEASED(p) (state[p] == MEMBER && lease[p] != LAPSED)
#ifdef NO_LEASE
#define MAY_OPEN(p) (state[p] == MEMBER)
#else
#define MAY_OPEN(p) LEASED(p)
#endif

/* ---- leases and suspicions ----------------------------------------------------------------------- */

/* Of the process that is registered under a name. */
#define LEASE_IS(p, x, what) (NAME(p) == (x) && inc[p] == reg[x] && lease[p] == (what))
#if PROCESSES == 3
#define ANY_LEASE(x, what) (LEASE_IS(0, x, what) || LEASE_IS(1, x, what) || LEASE_IS(2, x, what))
#else
#define ANY_LEASE(x, what) (LEASE_IS(0, x, what) || LEASE_IS(1, x, what))
#endif

inline lease_becomes(p, x, from, to) {
    lease[p] = (LEASE_IS(p, x, from) -> to : lease[p])
}

inline leases_become(x, from, to) {
    lease_becomes(0, x, from, to);
    lease_becomes(1, x, from, to);
#if PROCESSES == 3
    lease_becomes(2, x, from, to);
#endif
}

inline suspicion_begins(x) {
    suspect[x] = reg[x];
    leases_become(x, VALID, OLD)
}

inline suspicion_ends(x) {
    suspect[x] = 0;
    leases_become(x, OLD, VALID)
}

/* WAIT_LEASE: what a dead node owned is not handed out before its lease is over. */
#ifdef WAIT_LEASE
#define MAY_TAKE(x) (!ANY_LEASE(x, OLD) && !ANY_LEASE(x, VALID))
#else
#define MAY_TAKE(x) true
#endif

/* ---- a client in a process: assign, reconcile, releases, hosts ----------------------------------- */

inline forget(p, c) {
    runs[AT(p, c)] = 0;
    conn[AT(p, c)] = CLOSED;
    overlapped[AT(p, c)] = 0
}

/* Processes are alike: the first to get client 0 may as well be called process 0. */
#if defined(TWIN) || defined(TIMELY)
#define ALIKE(p, c) true
#else
#define ALIKE(p, c) ((c) != 0 || (p) == 0 || epoch[c] != 0)
#endif
/* NO_LEAVING: a node that ends gets clients like any other. */
#ifdef NO_LEAVING
#define IS_LIVE(p) true
#else
#define IS_LIVE(p) (!leaving[NAME(p)])
#endif
/* Otherwise the script refuses. Draining, size and not-before only delay: left out. */
#define CAN_GET(p, c)                                                                              \
    (inc[p] != 0 && IS_MEMBER(p) && IS_LIVE(p) && beat[NAME(p)] == inc[p] && in_no[c] &&           \
     epoch[c] < EPOCHS - (c) * FEWER && ALIKE(p, c))

inline assign(p, c) {
    to_owned(NAME(p), inc[p], epoch[c] + 1, c)
}

inline release(p, c) {
    if
#ifdef NO_EPOCH_RELEASE
    :: in_use[c] ->
#else
    :: in_use[c] && owner_inc[c] == inc[p] && epoch[c] == rel[AT(p, c)] ->
#endif
        to_waiting(c);
        unbind(NAME(p), c)
    :: else
    fi
}

/* release.lua with a target: assigned in the same step, if the target can get it. NO_TARGET_CHECK:
 * whatever became of the target meanwhile. */
#ifdef NO_TARGET_CHECK
#define CAN_TAKE(q, c) (inc[q] != 0 && epoch[c] < EPOCHS - (c) * FEWER)
#else
#define CAN_TAKE(q, c)                                                                             \
    (inc[q] != 0 && IS_MEMBER(q) && IS_LIVE(q) && beat[NAME(q)] == inc[q] &&                       \
     epoch[c] < EPOCHS - (c) * FEWER)
#endif
#define MOVES(p, q, c)                                                                             \
    (NAME(p) != NAME(q) && in_use[c] && owner_inc[c] == inc[p] && epoch[c] == rel[AT(p, c)] &&      \
     CAN_TAKE(q, c))

inline move(p, q, c) {
    to_waiting(c);
    unbind(NAME(p), c);
    to_owned(NAME(q), inc[q], epoch[c] + 1, c)
}

/* The broker closes the connection that another process has. */
inline kick(p, q, c) {
    conn[AT(q, c)] = (p != q && conn[AT(q, c)] == OPEN -> CLOSED : conn[AT(q, c)])
}

inline kick_others(p, c) {
    kick(p, 0, c);
    kick(p, 1, c);
#if PROCESSES == 3
    kick(p, 2, c);
#endif
}

inline stop(p, c, e) {
    if
    :: runs[AT(p, c)] == (e) -> forget(p, c)
    :: else
    fi
}

/* Releases are written by the thread that reads and starts. */
#define CAN_RELEASE(p, c)                                                                          \
    (RUNS(p) && state[p] == MEMBER && rel[AT(p, c)] != 0 && found[AT(p, c)] == 0)

inline start_client(p, c, e) {
    SAY3("process %d starts client %d at epoch %d", p, c, e);
    if
    :: (e) > runs[AT(p, c)] ->
        runs[AT(p, c)] = (e);
        overlapped[AT(p, c)] = 0;
        conn[AT(p, c)] = (conn[AT(p, c)] == QUIET -> CLOSED : conn[AT(p, c)])
    :: else
    fi
}

proctype client(byte p; byte c) {
    do
    /* assign.lua, by whoever thinks that he leads; a lost reply changes nothing for the caller. The
     * process hears of it by reading its changes. */
    :: d_step { CAN_GET(p, c) ->
        assign(p, c);
        SAY3("process %d is given client %d at epoch %d", p, c, epoch[c]); CHECK_S1 }

#ifdef ONLY_S1 /* what a process may know of a client: that it had it */
    :: d_step { state[p] == MEMBER && in_use[c] && owner_inc[c] == inc[p] && rel[AT(p, c)] == 0 ->
        rel[AT(p, c)] = epoch[c];
        SAY2("process %d gives client %d up", p, c) }
#else
#ifndef NO_RECONCILE
    /* reconcile.c: assigned, does not run. */
    :: d_step { RUNS(p) && state[p] == MEMBER && found[AT(p, c)] == 0 && IS_MEMBER(p) &&
                in_use[c] && owner_inc[c] == inc[p] && runs[AT(p, c)] != epoch[c] &&
                rel[AT(p, c)] != epoch[c] ->
        found[AT(p, c)] = epoch[c];
        SAY2("process %d finds client %d assigned", p, c) }
    :: d_step { RUNS(p) && found[AT(p, c)] != 0 ->
        start_client(p, c, found[AT(p, c)]); found[AT(p, c)] = 0 }
#endif
    /* reconcile.c: runs, but Redis says that it waits, or is another's. */
    :: d_step { RUNS(p) && state[p] == MEMBER && found[AT(p, c)] == 0 && runs[AT(p, c)] != 0 &&
                rel[AT(p, c)] != runs[AT(p, c)] && !OWNS(p, c) ->
        stop(p, c, runs[AT(p, c)]);
        SAY2("process %d stops client %d on evidence", p, c) }

    /* A host: begins under a valid lease only ... */
    :: d_step { RUNS(p) && runs[AT(p, c)] != 0 && conn[AT(p, c)] == CLOSED && MAY_OPEN(p) ->
        SAY3("process %d begins to connect client %d at epoch %d", p, c, runs[AT(p, c)]);
        CHECK_S2(p, c);
        conn[AT(p, c)] = OPENING }
    /* ... and drops what is under way when the lease lapses. */
    :: d_step { RUNS(p) && conn[AT(p, c)] == OPENING && !LEASED(p) ->
        conn[AT(p, c)] = CLOSED;
        SAY2("process %d drops the connect of client %d", p, c) }
    /* The broker accepts, whatever has become of lease and process meanwhile. */
    :: d_step { conn[AT(p, c)] == OPENING ->
        SAY3("process %d has client %d connected at epoch %d", p, c, runs[AT(p, c)]);
        conn[AT(p, c)] = OPEN;
        if
        :: runs[AT(p, c)] < connected[c] ->
            CHECK_ALTERNATING(p, c);
            overlapped[AT(p, c)] = 1
        :: else -> connected[c] = runs[AT(p, c)]
        fi;
        kick_others(p, c) }
    :: d_step { MAY_FAIL && conn[AT(p, c)] == OPEN ->
        FAIL; conn[AT(p, c)] = CLOSED;
        SAY2("process %d loses the connection of client %d", p, c) }

    /* It cannot be brought online, is in conflict, or an operator wants it elsewhere: closed. */
    :: d_step { RUNS(p) && MAY_FAIL && state[p] == MEMBER && runs[AT(p, c)] != 0 &&
                conn[AT(p, c)] != QUIET && rel[AT(p, c)] == 0 ->
        FAIL; conn[AT(p, c)] = QUIET; rel[AT(p, c)] = runs[AT(p, c)];
        SAY2("process %d gives client %d up", p, c) }
#endif
    /* releases.c: written until an answer comes. */
    :: d_step { CAN_RELEASE(p, c) ->
        SAY3("process %d releases client %d of epoch %d", p, c, rel[AT(p, c)]);
        release(p, c); stop(p, c, rel[AT(p, c)]);
        rel[AT(p, c)] = 0; CHECK_S1 }
    :: d_step { CAN_RELEASE(p, c) && MAY_FAIL && epoch[c] == rel[AT(p, c)] ->
        SAY3("process %d releases client %d of epoch %d, reply lost", p, c, rel[AT(p, c)]);
        FAIL; release(p, c); CHECK_S1 }

    /* The same with a target; the process hears of it by reading its changes. */
    :: d_step { CAN_RELEASE(p, c) && MOVES(p, 0, c) ->
        SAY3("process %d moves client %d of epoch %d to process 0", p, c, rel[AT(p, c)]);
        stop(p, c, rel[AT(p, c)]); move(p, 0, c); rel[AT(p, c)] = 0; CHECK_S1 }
    :: d_step { CAN_RELEASE(p, c) && MOVES(p, 1, c) ->
        SAY3("process %d moves client %d of epoch %d to process 1", p, c, rel[AT(p, c)]);
        stop(p, c, rel[AT(p, c)]); move(p, 1, c); rel[AT(p, c)] = 0; CHECK_S1 }
#if PROCESSES == 3
    :: d_step { CAN_RELEASE(p, c) && MOVES(p, 2, c) ->
        SAY3("process %d moves client %d of epoch %d to process 2", p, c, rel[AT(p, c)]);
        stop(p, c, rel[AT(p, c)]); move(p, 2, c); rel[AT(p, c)] = 0; CHECK_S1 }
#endif
    :: d_step { CAN_RELEASE(p, c) && MAY_FAIL && MOVES(p, 0, c) ->
        SAY3("process %d moves client %d of epoch %d to process 0, reply lost", p, c, rel[AT(p, c)]);
        FAIL; move(p, 0, c); CHECK_S1 }

    /* agent.c, leaving: what Redis says it owns. */
    :: d_step { RUNS(p) && state[p] == STOPPING && in_use[c] && owner_inc[c] == inc[p] ->
        to_waiting(c); unbind(NAME(p), c);
        SAY2("process %d, stopping, releases client %d", p, c); CHECK_S1 }
    od
}

/* ---- a process: heartbeat, membership, its life -------------------------------------------------- */

inline drop(p, c) {
    forget(p, c);
    found[AT(p, c)] = 0;
    rel[AT(p, c)] = 0
}

inline drop_all(p) {
    drop(p, 0);
#if CLIENTS == 2
    drop(p, 1);
#endif
}

inline become(p, what) {
    state[p] = what;
    lease[p] = LAPSED;
    inc[p] = 0
}

#define BEATS(p) (state[p] == MEMBER || state[p] == STOPPING)
#ifdef NO_FENCE
#define ACCEPTED(p) true
#else
#define ACCEPTED(p) (IS_MEMBER(p) && (beat[NAME(p)] == 0 || beat[NAME(p)] == inc[p]))
#endif

/* No two looks that count, and no last look and fence, are so far apart that a beat could come and
 * go between them: so a beat ends the suspicion. STALE_LOOKS: it may go unseen. */
inline beat_set(p) {
    beat[NAME(p)] = inc[p];
#ifndef STALE_LOOKS
    suspicion_ends(NAME(p))
#endif
}

inline mark_dead(x) {
    dead[x] = 1;
#ifdef NO_EPOCH_REAP
    reaping[x] = 1;
#endif
    suspicion_ends(x)
}

/* What an earlier incarnation left waits first, a batch a call. */
inline join(p) {
    take_from(NAME(p));
    if
    :: bind[NAME(p)] == 0 ->
        incarnations++;
        register(NAME(p), incarnations)
    :: else
    fi
}

#define EARLIER(p)  (reg[NAME(p)] != 0 && !dead[NAME(p)])
#define CAN_JOIN(p) (state[p] == OUTSIDE && beat[NAME(p)] == 0 && incarnations < NAMES + JOINS)

proctype node(byte p) {
    do
    /* Heartbeat. */
    :: d_step { RUNS(p) && BEATS(p) && ACCEPTED(p) &&
                (lease[p] != GIVEN_TO(p) || beat[NAME(p)] != inc[p]) ->
        beat_set(p); lease[p] = GIVEN_TO(p);
        SAY1("process %d beats", p) }
    :: d_step { RUNS(p) && MAY_FAIL && BEATS(p) && ACCEPTED(p) && beat[NAME(p)] != inc[p] ->
        FAIL; beat_set(p);
        SAY1("process %d beats, reply lost", p) }
    :: d_step { RUNS(p) && BEATS(p) && !ACCEPTED(p) ->
        SAY1("process %d learns that it is fenced", p);
        lease[p] = LAPSED;
        if
        :: state[p] == MEMBER -> state[p] = CUT_OFF
        :: else -> become(p, GONE)
        fi }

    /* join.lua, a batch a call. */
    :: d_step { RUNS(p) && CAN_JOIN(p) && EARLIER(p) ->
        mark_dead(NAME(p));
        SAY2("process %d, joining, marks name %d dead", p, NAME(p)) }
    :: atomic { RUNS(p) && CAN_JOIN(p) && !EARLIER(p) && MAY_TAKE(NAME(p)) ->
        SAY2("process %d joins as name %d", p, NAME(p));
        join(p);
        if
        :: bind[NAME(p)] == 0 ->
            inc[p] = incarnations; lease[p] = GIVEN; state[p] = MEMBER
        :: else
        fi;
        CHECK_S1 }
    /* Reply lost: the next try is another incarnation. */
    :: atomic { RUNS(p) && MAY_FAIL && CAN_JOIN(p) && !EARLIER(p) && MAY_TAKE(NAME(p)) ->
        FAIL; join(p);
        SAY2("process %d joins as name %d, reply lost", p, NAME(p)); CHECK_S1 }
    /* membership.c: drops everything, then joins anew. */
    :: d_step { RUNS(p) && state[p] == CUT_OFF ->
        drop_all(p); become(p, OUTSIDE);
        SAY1("process %d has dropped everything", p) }
    /* leave: owns nothing any more, or another has its name by now. */
    :: d_step { RUNS(p) && state[p] == STOPPING && (reg[NAME(p)] != inc[p] || bind[NAME(p)] == 0) ->
        if
        :: reg[NAME(p)] == inc[p] -> remove_node(NAME(p))
        :: else
        fi;
        become(p, GONE);
        SAY1("process %d has left", p); CHECK_S1 }
    od
}

/* ---- who leads: looks, fences, reaps ------------------------------------------------------------- */

/* The caller of a fence beats itself. */
#define OTHER_BEATS(x, y) ((x) != (y) && reg[y] != 0 && !dead[y] && beat[y] == reg[y])
#if NAMES == 3
#define CALLER_BEATS(x) (OTHER_BEATS(x, 0) || OTHER_BEATS(x, 1) || OTHER_BEATS(x, 2))
#else
#define CALLER_BEATS(x) (OTHER_BEATS(x, 0) || OTHER_BEATS(x, 1))
#endif

#define JUDGED(x) (reg[x] != 0 && !dead[x])
#ifdef ONLY_S1 /* a fence at any time is the worst case */
#define NO_LOOKS
#define NO_GRACE
#endif
/* The grace: it outlasts every lease that a beat before the first look has brought. */
#ifdef NO_GRACE
#define CONDEMNED(x) true
#else
#define CONDEMNED(x) (suspect[x] == reg[x] && !ANY_LEASE(x, OLD))
#endif
#ifdef NO_EPOCH_REAP
#define REAPABLE(x) reaping[x]
#else
#define REAPABLE(x) (dead[x] && beat[x] == 0 && MAY_TAKE(x))
#endif

proctype leader(byte x) {
    do
#ifndef NO_LOOKS
    :: d_step { JUDGED(x) && beat[x] != reg[x] && suspect[x] != reg[x] ->
        suspicion_begins(x);
        SAY1("a look misses the beat of name %d", x) }
    :: d_step { suspect[x] != 0 && (!JUDGED(x) || beat[x] == reg[x]) ->
        suspicion_ends(x);
        SAY1("a look finds name %d in order", x) }
#endif
    /* The last look and the script in one: a beat between the two would have it refused. */
    :: d_step { JUDGED(x) && beat[x] == 0 && CONDEMNED(x) && CALLER_BEATS(x) ->
        mark_dead(x);
        SAY1("another look misses the beat of name %d: fenced", x) }
#ifndef NO_REAP
    :: atomic { REAPABLE(x) ->
        take_from(x);
        if
        :: bind[x] == 0 -> remove_node(x)
        :: else
        fi;
        SAY1("name %d is reaped", x); CHECK_S1 }
#endif
    od
}

/* ---- time ---------------------------------------------------------------------------------------- */

#ifdef TIMELY /* who runs beats in time */
#define LATE(p) (paused[p] || !BEATS(p) || !ACCEPTED(p))
#define BEATING(p, x) (NAME(p) == (x) && inc[p] == beat[x] && !LATE(p))
#if PROCESSES == 3
#define RENEWED(x) (BEATING(0, x) || BEATING(1, x) || BEATING(2, x))
#else
#define RENEWED(x) (BEATING(0, x) || BEATING(1, x))
#endif
#else
#define LATE(p)    true
#define RENEWED(x) false
#endif

/* SHORT_LEASE: it is over when the beat that brought it expires. */
#ifdef SHORT_LEASE
#define MAY_EXPIRE(x) (!ANY_LEASE(x, OLD) && !ANY_LEASE(x, VALID))
#else
#define MAY_EXPIRE(x) true
#endif

proctype time(byte p) {
    do
    :: d_step { lease[p] != LAPSED && LATE(p) ->
        lease[p] = LAPSED;
        SAY1("the lease of process %d lapses", p) }
    :: d_step { p < NAMES && beat[NAME(p)] != 0 && !RENEWED(NAME(p)) && MAY_EXPIRE(NAME(p)) ->
        beat[NAME(p)] = 0;
        SAY1("the beat of name %d expires", NAME(p)) }
    od
}

/* ---- faults of processes ------------------------------------------------------------------------- */

/* In the timely model one process that can work is left alone. */
#ifdef TIMELY
#define WORKS(p, q) ((p) != (q) && !paused[q] && state[q] != DOWN && state[q] != STOPPING)
#if PROCESSES == 3
#define SPARE(p) (MAY_FAIL && (WORKS(p, 0) || WORKS(p, 1) || WORKS(p, 2)))
#else
#define SPARE(p) (MAY_FAIL && (WORKS(p, 0) || WORKS(p, 1)))
#endif
#else
#define SPARE(p) true
#endif

proctype life(byte p) {
    do
    :: d_step { state[p] != GONE && SPARE(p) ->
        FAIL; drop_all(p); become(p, GONE);
        SAY1("process %d is killed", p) }
    :: d_step { RUNS(p) && state[p] == MEMBER && SPARE(p) ->
        FAIL; drop_all(p); state[p] = STOPPING; lease[p] = LAPSED;
        leaving[NAME(p)] = (IS_MEMBER(p) -> 1 : leaving[NAME(p)]); /* mark_leaving.lua comes first */
        SAY1("process %d is told to stop, closes all", p) }
#ifdef TIMELY
    :: d_step { !paused[p] && state[p] != DOWN && SPARE(p) ->
        FAIL; paused[p] = 1;
        SAY1("process %d is paused", p) }
    :: d_step { state[p] == DOWN ->
        state[p] = OUTSIDE;
        SAY1("process %d starts", p) }
    :: d_step { paused[p] ->
        paused[p] = 0;
        SAY1("process %d goes on", p) }
    :: state[p] == DOWN || paused[p] -> skip /* it may stay so for ever */
#endif
    od
}

/* The fleet has formed; the clients wait. */
init {
    byte i;
    atomic {
        for (i : 0 .. CLIENTS - 1) {
            in_no[i] = 1
        }
        for (i : 0 .. NAMES - 1) {
            incarnations++;
            reg[i] = incarnations;
            beat[i] = incarnations;
            inc[i] = incarnations;
            lease[i] = GIVEN;
            state[i] = MEMBER;
            run leader(i)
        }
        for (i : 0 .. PROCESSES - 1) {
            state[i] = (state[i] == MEMBER -> MEMBER : OUTSIDE);
            run node(i);
            run time(i);
            run life(i)
        }
        for (i : 0 .. PAIRS - 1) {
            run client(i / CLIENTS, i % CLIENTS)
        }
        i = 0
    }
}

#ifdef TIMELY
#define ONLINE_AT(p, c) (LEASED(p) && !paused[p] && conn[AT(p, c)] == OPEN && OWNS(p, c))
#if PROCESSES == 3
#define ONLINE(c) (ONLINE_AT(0, c) || ONLINE_AT(1, c) || ONLINE_AT(2, c))
#else
#define ONLINE(c) (ONLINE_AT(0, c) || ONLINE_AT(1, c))
#endif
#if CLIENTS == 2
ltl L { <> [] (ONLINE(0) && ONLINE(1)) }
#else
ltl L { <> [] ONLINE(0) }
#endif
#endif
