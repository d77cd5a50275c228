/* A Redis that goes back (docs/protocol.md, rule 10) as a model for Spin: a snapshot of its state, and
 * later, at any moment, that state again. Two nodes, one client. README.md says what is abstracted;
 * `run` verifies it and its mutations.
 *
 * Two questions, each with the state that it needs: with TEXTS the texts that users write (is what
 * runs put back, does what was acknowledged after the loss stand?); without, leases and who
 * connects (S2). */

/* ---- size and variant ---------------------------------------------------------------------------- */

#define CLIENTS 1
#define X       0 /* the client */
#define NAMES   2
#define NAME(p) (p)
#define OTHER(p) (1 - (p))
#ifndef BACKS /* so often it goes back */
#define BACKS 1
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef VERSIONS
#define VERSIONS 3
#endif
#ifndef JOINS
#define JOINS 1
#endif

#include "redis.pml"

/* ---- Redis, beyond redis.pml --------------------------------------------------------------------- */

byte version[1];        /* of the client's text */
bit tombstone[1];       /* with the version and epoch that it stands against */
byte tomb_version[1];
byte tomb_epoch[1];
byte outlawed[1];       /* mqtt_fleet:fenced: a set of incarnations */
byte generation[1];
bit window[1];          /* mqtt_fleet:restoring */
byte removed[1];        /* no rule looks at it: what was written up to here has been deleted */

#ifdef TEXTS
#define EACH_TEXT(F) F(version, 0) F(tombstone, 0) F(tomb_version, 0) F(tomb_epoch, 0) F(removed, 0)
#else
#define EACH_TEXT(F)
#endif
#ifdef COUNTED_EPOCHS /* mutation: the last one and one more, whatever the time */
byte last_epoch[1];
byte stamp[1];          /* which of all assignments that was */
#define STAMP stamp[0]
#define EACH_EPOCH(F) F(last_epoch, 0) F(stamp, 0)
#else
#define STAMP epoch[X]
#define EACH_EPOCH(F)
#endif
#ifdef COUNTED_VERSIONS /* mutation: likewise */
byte text[1];
#define TEXT text[0]
#define EACH_VERSION(F) F(text, 0)
#else
#define TEXT version[0]
#define EACH_VERSION(F)
#endif

#define EACH(F)                                                                                    \
    F(in_no, X) F(in_use, X) F(owner, X) F(owner_inc, X) F(epoch, X) F(bind, 0) F(bind, 1)         \
    F(reg, 0) F(reg, 1) F(dead, 0) F(dead, 1) F(beat, 0) F(beat, 1) F(outlawed, 0)                 \
    F(generation, 0) F(window, 0) EACH_TEXT(F) EACH_EPOCH(F) EACH_VERSION(F)

/* The snapshot, or what a replica has. */
#define DECLARE_SAVED(x, i) byte saved_##x##i;
#define KEEP_IT(x, i)       saved_##x##i = x[i];
#define PUT_BACK(x, i)      x[i] = saved_##x##i; saved_##x##i = 0;
EACH(DECLARE_SAVED)
bit saved;
byte backs = BACKS;

/* ---- the world ----------------------------------------------------------------------------------- */

byte epochs;            /* times of Redis' clock: given so far, by whichever Redis */
byte versions = 1;
byte generations = 1;
bit noticed;            /* the last loss, by anybody */

/* ---- processes ----------------------------------------------------------------------------------- */

#define OUTSIDE 0
#define MEMBER  1
#define LOST    2       /* told that Redis went back: it is to join again */
byte state[NAMES];
byte inc[NAMES];
byte knows[NAMES];      /* the generation it joined under */
bit acts[NAMES];        /* a call that writes was answered since the snapshot */
bit ahead[NAMES];       /* Redis does not know the number of its last answered call */
bit went_back[NAMES];   /* some call was told BACK, its heartbeat does not know yet */
bit told[NAMES];        /* of the last loss, or not running then */
bit shown[NAMES];       /* all that runs was judged since it joined again */

#define LAPSED 0
#define OLD    1        /* of a beat before the loss, or before the window */
#define VALID  2
byte lease[NAMES];
#ifdef TEXTS /* no lease matters */
#define GIVEN LAPSED
#else
#define GIVEN VALID
#endif

byte runs[NAMES];       /* epoch, 0: does not run */
byte runs_version[NAMES];
bit ousted[NAMES];      /* a restore of something newer took it, which it has yet to read */
#ifdef COUNTED_EPOCHS
byte runs_stamp[NAMES];
#define RUNS_STAMP(p) runs_stamp[p]
#else
#define RUNS_STAMP(p) runs[p]
#endif
#ifdef COUNTED_VERSIONS
byte runs_text[NAMES];
#define RUNS_TEXT(p) runs_text[p]
#else
#define RUNS_TEXT(p) runs_version[p]
#endif

#ifdef OPENS_UNSEEN /* mutation: a node that joined again opens before it was judged */
#define SHOWN(p) true
#else
#define SHOWN(p) shown[p]
#endif
#define LEASED(p) (state[p] == MEMBER && lease[p] != LAPSED && SHOWN(p))

/* ---- what must hold ------------------------------------------------------------------------------ */

#define EXISTS (in_no[X] || in_use[X])
#define CHECK_S1 assert((!EXISTS && bind[0] + bind[1] == 0) || S1(X))

/* What ran at p is there, or something newer, or was deleted after it had been written; and nothing
 * is there that had been deleted by then. */
#define KEPT(t)     (removed[0] >= (t) || (EXISTS && TEXT >= (t)))
#define CHECK_KEPT(t) assert(KEPT(t)); assert(!EXISTS || TEXT > removed[0])

/* S2: who begins to connect owns the client, unless nobody has told it yet; and nobody begins to run it
 * after the loss was noticed while such a node may connect. */
#define MINE(p) (in_use[X] && owner[X] == (p) && owner_inc[X] == inc[p])
#define UNTOLD(p) (!told[p] || lease[p] == OLD)
#define RUNS_UNTOLD(p) (runs[p] != 0 && UNTOLD(p) && LEASED(p))
#ifdef TEXTS
#define CHECK_CONNECT(p) skip
#define CHECK_START(p)   skip
#else
#define CHECK_CONNECT(p) assert(MINE(p) || UNTOLD(p) || ousted[p])
#define CHECK_START(p)   assert(!noticed || !RUNS_UNTOLD(OTHER(p)))
#endif

/* ---- scripts ------------------------------------------------------------------------------------- */

/* history.lua is before all that write: a call whose process is ahead of Redis does nothing else. */
#define KNOWN(p) (!ahead[p])
#ifdef TEXTS /* when the loss is noticed makes no difference to what is judged */
#define ANSWERED(p) skip
#else
#define ANSWERED(p) acts[p] = saved
#endif

#ifdef COUNTED_EPOCHS
inline next_epoch(least) {
    epochs++;
    last_epoch[0] = (last_epoch[0] + 1 > (least) -> last_epoch[0] + 1 : (least));
    e = last_epoch[0];
    stamp[0] = epochs
}
#else
inline next_epoch(least) {
    epochs++;
    e = epochs
}
#endif

inline next_version() {
    versions++;
#ifdef COUNTED_VERSIONS
    version[0] = (tombstone[0] -> tomb_version[0] : version[0]) + 1;
    text[0] = versions
#else
    version[0] = versions
#endif
}

inline dig_up() {
    tombstone[0] = 0;
    tomb_version[0] = 0;
    tomb_epoch[0] = 0
}

inline lease_ages(p) {
    lease[p] = (lease[p] == VALID -> OLD : lease[p])
}

inline window_begins() {
#ifndef TEXTS
    window[0] = 1;
    lease_ages(0);
    lease_ages(1)
#else
    skip
#endif
}

/* Not while some lease is from before it: the settings see to that. */
#ifdef SHORT_WINDOW /* mutation */
#define MAY_END true
#else
#define MAY_END (lease[0] != OLD && lease[1] != OLD)
#endif
#ifdef NO_WINDOW /* mutation */
#define RESTORING false
#else
#define RESTORING window[0]
#endif

#define OUTLAWED(i) ((outlawed[0] >> (i)) & 1)

inline outlaw(i) {
#ifndef NO_OUTLAWS /* mutation */
    outlawed[0] = outlawed[0] | (1 << (i))
#else
    skip
#endif
}

/* judge(): what Redis has is older than what p runs. */
#ifdef NO_EPOCHS /* mutation: epochs are not compared */
#define OLDER_EPOCH(e, p) true
#else
#define OLDER_EPOCH(e, p) ((e) < runs[p])
#endif
#ifdef NO_VERSIONS /* mutation: versions are not compared */
#define OLDER_VERSION(v, p) false
#else
#define OLDER_VERSION(v, p) ((v) < runs_version[p])
#endif
#ifdef NO_TOMBSTONES /* mutation */
#define BURIED(p) false
#elif defined(TOMBSTONES_STAND) /* mutation: against all */
#define BURIED(p) tombstone[0]
#else
#define BURIED(p) (tombstone[0] && tomb_version[0] >= runs_version[p] && tomb_epoch[0] >= runs[p])
#endif
#define LACKS(p)                                                                                   \
    (EXISTS -> OLDER_EPOCH(epoch[X], p) || OLDER_VERSION(version[0], p) : !BURIED(p))

inline take_text(p) {
    if
    :: runs_version[p] > version[0] ->
        version[0] = runs_version[p];
#ifdef COUNTED_VERSIONS
        text[0] = runs_text[p]
#endif
    :: else
    fi
}

inline oust(p, q) {
    if
    :: runs[q] != 0 && MINE(q) && RUNS_STAMP(p) > STAMP -> ousted[q] = 1
    :: else
    fi
}

/* restore.lua, of what Redis lacks. kept: Redis says that p runs it. */
inline restore(p) {
    if
    :: MINE(p) ->
        take_text(p);
        if
        :: runs[p] > epoch[X] -> next_epoch(runs[p] + 1); epoch[X] = e
        :: else
        fi;
        kept = 1
    :: !MINE(p) && EXISTS && !OLDER_EPOCH(epoch[X], p) ->
        take_text(p);
        kept = 0
    :: else ->
        oust(p, OTHER(p));
#ifdef OLD_TEXT /* mutation: its text, although Redis' is newer */
        version[0] = runs_version[p];
#else
        take_text(p);
#endif
        bind[0] = 0;
        bind[1] = 0;
        dig_up();
        next_epoch(runs[p] + 1);
        to_owned(p, inc[p], e, X);
        kept = 1
    fi
}

#define CAN_GET(x)                                                                                 \
    (reg[x] != 0 && !dead[x] && beat[x] == reg[x] && in_no[X] && !RESTORING && epochs < EPOCHS)

inline assign(x) {
    next_epoch(epoch[X] + 1);
    to_owned(x, reg[x], e, X);
    SAY2("name %d is given the client at epoch %d", x, e);
    e = 0
}

/* The grace outlasts every lease, unless the beat was lost as well. */
#define CONDEMNED(x) (inc[x] != reg[x] || lease[x] != VALID)

/* Who is silent for as long as a tombstone lasts has been declared dead, if Redis knows it. */
#define SILENT(p) (runs[p] == 0 || (reg[p] != inc[p] && backs == BACKS) || (reg[p] == inc[p] && dead[p]))

#ifdef RELEASES_BLINDLY /* mutation: whatever version ran */
#define RELEASABLE(p) (MINE(p) && epoch[X] == runs[p])
#else
#define RELEASABLE(p) (MINE(p) && epoch[X] == runs[p] && !OLDER_VERSION(version[0], p))
#endif
#ifdef DELETES_KNOWN /* mutation: the version that Redis has, instead of the time */
#define TOMB_VERSION version[0]
#else
#define TOMB_VERSION versions
#endif

inline goes_back(p) {
    ahead[p] = ahead[p] | acts[p];
    acts[p] = 0;
#ifndef TEXTS
    lease_ages(p);
    told[p] = (state[p] == MEMBER && runs[p] != 0 -> 0 : 1)
#endif
}

/* ---- steps of processes -------------------------------------------------------------------------- */

inline stop(p) {
    runs[p] = 0;
    runs_version[p] = 0;
    ousted[p] = 0;
#ifdef COUNTED_EPOCHS
    runs_stamp[p] = 0;
#endif
#ifdef COUNTED_VERSIONS
    runs_text[p] = 0;
#endif
}

inline leave_fleet(p) {
    stop(p);
    state[p] = OUTSIDE;
    inc[p] = 0;
    knows[p] = 0;
    lease[p] = LAPSED;
    shown[p] = 1;
    told[p] = 1
}

inline lose(p) {
    state[p] = LOST;
    lease[p] = LAPSED;
    told[p] = 1
}

#define FENCED(p) (OUTLAWED(inc[p]) || (reg[p] == inc[p] && dead[p]))
#ifdef FENCED_UNKNOWN /* mutation: an incarnation that Redis does not know counts as fenced */
#define REFUSED(p) (FENCED(p) || reg[p] != inc[p])
#else
#define REFUSED(p) FENCED(p)
#endif
#define STATE_LOST(p)                                                                              \
    (knows[p] != generation[0] || reg[p] != inc[p] || (beat[p] != 0 && beat[p] != inc[p]))

/* The record is at least as new as what runs, and not the same. */
#define BEHIND(p)                                                                                  \
    (MINE(p) && epoch[X] >= runs[p] && version[0] >= runs_version[p] &&                            \
     (epoch[X] != runs[p] || version[0] != runs_version[p]))
#define SAME(p) (MINE(p) && epoch[X] == runs[p] && version[0] == runs_version[p])
#define DOUBTED(p) (runs[p] != 0 && !SAME(p) && !BEHIND(p))

proctype node(byte p) {
    byte e;
    bit kept;
    do
    /* ---- history.lua ---- */
    :: d_step { state[p] != OUTSIDE && ahead[p] ->
        SAY1("process %d is told BACK", p);
#ifndef NO_GENERATION /* mutation */
        if
        :: !window[0] -> generations++; generation[0] = generations
        :: else
        fi;
#endif
        window_begins();
        noticed = 1;
        ahead[p] = 0;
        went_back[p] = 1 }

    /* ---- heartbeat ---- */
    :: d_step { state[p] == MEMBER && KNOWN(p) && !REFUSED(p) && !STATE_LOST(p) && !went_back[p] &&
                (lease[p] != GIVEN || beat[p] != inc[p]) ->
        SAY1("process %d beats", p);
        beat[p] = inc[p];
        lease[p] = GIVEN;
        ANSWERED(p) }
    :: d_step { state[p] == MEMBER && KNOWN(p) && !REFUSED(p) && (STATE_LOST(p) || went_back[p]) ->
        SAY1("process %d learns that Redis went back", p);
        lose(p) }
    :: d_step { state[p] != OUTSIDE && KNOWN(p) && REFUSED(p) ->
        SAY1("process %d is fenced, and drops what runs", p);
        if
        :: !FENCED(p) && runs[p] != 0 -> CHECK_KEPT(RUNS_TEXT(p))
        :: else
        fi;
        leave_fleet(p) }

    /* ---- join.lua ---- */
    :: d_step { state[p] == LOST && KNOWN(p) && !REFUSED(p) && (beat[p] == 0 || beat[p] == inc[p]) ->
        SAY1("process %d joins again", p);
        if
        :: reg[p] != inc[p] -> outlaw(reg[p]); take_from(p)
        :: else
        fi;
        register(p, inc[p]);
        if
        :: !window[0] -> window_begins()
        :: else
        fi;
        knows[p] = generation[0];
        state[p] = MEMBER;
        lease[p] = GIVEN;
#ifndef TEXTS
        shown[p] = (runs[p] == 0);
#endif
        went_back[p] = 0;
        ANSWERED(p); CHECK_S1 }
    :: d_step { state[p] == OUTSIDE && KNOWN(p) && beat[p] == 0 && incarnations < NAMES + JOINS ->
        SAY1("process %d joins", p);
        if
        :: reg[p] != 0 -> outlaw(reg[p])
        :: else
        fi;
        take_from(p);
        incarnations++;
        register(p, incarnations);
        inc[p] = incarnations;
        knows[p] = generation[0];
        state[p] = MEMBER;
        lease[p] = GIVEN;
        went_back[p] = 0;
        ANSWERED(p); CHECK_S1 }

    /* ---- reconcile.c ---- */
    /* Reading presents no number: what was read may be lost without the reader's knowing. */
    :: d_step { state[p] == MEMBER && BEHIND(p) && !(RESTORING && runs[p] == 0) && IS_MEMBER(p) ->
        SAY3("process %d runs the client at epoch %d, version %d", p, epoch[X], version[0]);
        if
        :: runs[p] == 0 -> CHECK_START(p)
        :: else
        fi;
        runs[p] = epoch[X];
        runs_version[p] = version[0];
#ifdef COUNTED_EPOCHS
        runs_stamp[p] = stamp[0];
#endif
#ifdef COUNTED_VERSIONS
        runs_text[p] = text[0];
#endif
        ousted[p] = 0 }
    :: d_step { state[p] == MEMBER && KNOWN(p) && DOUBTED(p) && !LACKS(p) ->
        SAY1("process %d stops the client on evidence", p);
        CHECK_KEPT(RUNS_TEXT(p));
        stop(p);
        ANSWERED(p) }
    :: d_step { state[p] == MEMBER && KNOWN(p) && DOUBTED(p) && LACKS(p) && epochs < EPOCHS &&
                IS_MEMBER(p) ->
        SAY1("process %d puts the client back", p);
#ifdef NO_RESTORE /* mutation: what Redis does not know is stopped */
        kept = 0;
#else
        restore(p);
#endif
        CHECK_KEPT(RUNS_TEXT(p));
        if
        :: !kept -> stop(p)
        :: else
        fi;
        kept = 0; e = 0;
        ANSWERED(p); CHECK_S1 }
    :: d_step { state[p] == MEMBER && !shown[p] && !DOUBTED(p) ->
        SAY1("process %d has been judged", p);
        shown[p] = 1 }
    :: d_step { state[p] == MEMBER && SAME(p) && RUNS_TEXT(p) != TEXT ->
        SAY1("process %d runs another text than Redis has", p);
        assert(RUNS_TEXT(p) == TEXT) }

    /* ---- releases.c: closed here; what is not this epoch's is judged ---- */
    :: d_step { state[p] == MEMBER && KNOWN(p) && runs[p] != 0 && epochs < EPOCHS &&
                (RELEASABLE(p) || !LACKS(p) || IS_MEMBER(p)) ->
        SAY1("process %d releases the client", p);
        if
        :: RELEASABLE(p) -> to_waiting(X); unbind(p, X)
        :: else ->
            if
            :: LACKS(p) ->
#ifdef FORGETS_LEAVING /* mutation */
                skip
#else
                restore(p)
#endif
            :: else
            fi
        fi;
        CHECK_KEPT(RUNS_TEXT(p));
        stop(p);
        kept = 0; e = 0;
        ANSWERED(p); CHECK_S1 }

#ifndef TEXTS
    :: d_step { runs[p] != 0 && LEASED(p) && !MINE(p) ->
        SAY2("process %d begins to connect at epoch %d", p, runs[p]);
        CHECK_CONNECT(p) }
    :: d_step { lease[p] != LAPSED -> lease[p] = LAPSED;
        SAY1("the lease of process %d lapses", p) }
#endif
    :: d_step { beat[p] != 0 -> beat[p] = 0;
        SAY1("the beat of name %d expires", p) }
    :: d_step { state[p] != OUTSIDE && incarnations < NAMES + JOINS ->
        SAY1("process %d is killed", p);
        leave_fleet(p);
        ahead[p] = 0; acts[p] = 0; went_back[p] = 0 }

    /* ---- what p does for the fleet ---- */
    :: d_step { state[p] == MEMBER && KNOWN(p) && IS_MEMBER(p) && beat[p] == inc[p] &&
                reg[OTHER(p)] != 0 && !dead[OTHER(p)] && beat[OTHER(p)] == 0 && CONDEMNED(OTHER(p)) ->
        SAY1("name %d is fenced", OTHER(p));
        dead[OTHER(p)] = 1;
        outlaw(reg[OTHER(p)]);
        ANSWERED(p) }
    :: d_step { state[p] == MEMBER && KNOWN(p) && dead[OTHER(p)] && beat[OTHER(p)] == 0 ->
        SAY1("name %d is reaped", OTHER(p));
        take_from(OTHER(p));
        remove_node(OTHER(p));
        ANSWERED(p); CHECK_S1 }
    :: d_step { state[p] == MEMBER && KNOWN(p) && CAN_GET(p) -> assign(p); ANSWERED(p); CHECK_S1 }
    :: d_step { state[p] == MEMBER && KNOWN(p) && CAN_GET(OTHER(p)) ->
        assign(OTHER(p)); ANSWERED(p); CHECK_S1 }

#ifdef TEXTS
    /* ---- what users ask of p ---- */
    :: d_step { state[p] != OUTSIDE && KNOWN(p) && !EXISTS && versions < VERSIONS ->
        next_version();
        SAY1("a user creates version %d", version[0]);
        in_no[X] = 1;
        epoch[X] = 0;
        dig_up();
        ANSWERED(p) }
    :: d_step { state[p] != OUTSIDE && KNOWN(p) && EXISTS && versions < VERSIONS ->
        next_version();
        SAY1("a user updates to version %d", version[0]);
        ANSWERED(p) }
    :: d_step { state[p] != OUTSIDE && KNOWN(p) && EXISTS && versions < VERSIONS ->
        SAY1("a user deletes version %d", version[0]);
        tombstone[0] = 1;
        tomb_version[0] = TOMB_VERSION;
        tomb_epoch[0] = epochs;
        removed[0] = versions;
        to_waiting(X);
        in_no[X] = 0;
        epoch[X] = 0;
        version[0] = 0;
#ifdef COUNTED_VERSIONS
        text[0] = 0;
#endif
        bind[0] = 0;
        bind[1] = 0;
        ANSWERED(p); CHECK_S1 }
#endif
    od
}

/* ---- Redis itself -------------------------------------------------------------------------------- */

proctype redis() {
    do
    :: d_step { !saved && backs > 0 ->
        EACH(KEEP_IT)
        saved = 1; acts[0] = 0; acts[1] = 0;
        SAY1("a snapshot is taken, %d", backs) }
    :: d_step { saved ->
        EACH(PUT_BACK)
        saved = 0; backs--; noticed = 0;
        goes_back(0); goes_back(1);
        SAY1("Redis goes back, %d", backs) }
    /* An expiry is a time: it has passed in the snapshot as well. */
#ifdef TEXTS
    :: d_step { tombstone[0] && SILENT(0) && SILENT(1) ->
        dig_up();
        SAY1("the tombstone is forgotten, %d", 0) }
#endif
    :: d_step { window[0] && MAY_END -> window[0] = 0; saved_window0 = 0;
        SAY1("the window ends, %d", 0) }
    od
}

init {
    byte i;
    atomic {
        in_no[X] = 1;
        version[0] = 1;
        generation[0] = 1;
#ifdef COUNTED_VERSIONS
        text[0] = 1;
#endif
        for (i : 0 .. NAMES - 1) {
            incarnations++;
            register(i, incarnations);
            inc[i] = incarnations;
            knows[i] = 1;
            lease[i] = GIVEN;
            state[i] = MEMBER;
            told[i] = 1;
            shown[i] = 1;
            run node(i)
        }
        run redis();
        i = 0
    }
}
