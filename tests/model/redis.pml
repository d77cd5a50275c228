/* What fleet.pml and back.pml share: Redis as far as both look at it, S1, and the steps that scripts
 * have in common. Defined before: CLIENTS, NAMES, NAME(process). */

/* Every step tells what it is when a counterexample is replayed. */
#define SAY1(text, a)       printf(text, a); printf("\n")
#define SAY2(text, a, b)    printf(text, a, b); printf("\n")
#define SAY3(text, a, b, d) printf(text, a, b, d); printf("\n")

/* ---- Redis --------------------------------------------------------------------------------------- */

bit in_no[CLIENTS];     /* mqtt_config:no */
bit in_use[CLIENTS];    /* mqtt_config:use */
byte owner[CLIENTS];    /* mqtt_fleet:owner: name, incarnation */
byte owner_inc[CLIENTS];
byte epoch[CLIENTS];    /* of its owner; while it waits, of its last one (mqtt_fleet:meta) */
byte bind[NAMES];       /* node_bind: a set of clients */
byte reg[NAMES];        /* register:mqtt: incarnation, 0: no entry */
bit dead[NAMES];        /* its state */
bit leaving[NAMES];     /* likewise: it ends, and gets nothing more */
byte beat[NAMES];       /* beat:mqtt: incarnation, 0: no key */
byte incarnations;      /* given so far */

/* ---- what must hold ------------------------------------------------------------------------------ */

#define BOUND(x, c) ((bind[x] >> (c)) & 1)
#if NAMES == 3
#define BOUND_TIMES(c) (BOUND(0, c) + BOUND(1, c) + BOUND(2, c))
#else
#define BOUND_TIMES(c) (BOUND(0, c) + BOUND(1, c))
#endif

/* S1, and beyond it: an owner is always registered. */
#define S1(c)                                                                                      \
    (in_no[c] + in_use[c] == 1 && BOUND_TIMES(c) == in_use[c] &&                                   \
     (!in_use[c] || (BOUND(owner[c], c) && reg[owner[c]] == owner_inc[c])))

/* ---- steps that scripts share (lua/common) -------------------------------------------------------- */

inline to_waiting(c) {
    in_use[c] = 0;
    in_no[c] = 1;
    owner[c] = 0;
    owner_inc[c] = 0
}

inline to_owned(x, who, at, c) {
    in_no[c] = 0;
    in_use[c] = 1;
    epoch[c] = (at);
    owner[c] = (x);
    owner_inc[c] = (who);
    bind[x] = bind[x] | (1 << (c))
}

inline unbind(x, c) {
    bind[x] = bind[x] & ~(1 << (c))
}

inline take(x, c) {
    unbind(x, c);
    if
    :: in_use[c] && owner[c] == x -> to_waiting(c)
    :: else
    fi
}

/* A batch of one, whichever is first in the list. */
inline take_from(x) {
    if
    :: bind[x] & 1 -> take(x, 0)
#if CLIENTS == 2
    :: bind[x] & 2 -> take(x, 1)
#endif
    :: bind[x] == 0
    fi
}

inline remove_node(x) {
    reg[x] = 0;
    dead[x] = 0;
    leaving[x] = 0;
    beat[x] = 0
}

inline register(x, who) {
    reg[x] = (who);
    dead[x] = 0;
    leaving[x] = 0;
    beat[x] = (who)
}

/* Registered under this incarnation and not dead. */
#define IS_MEMBER(p) (reg[NAME(p)] == inc[p] && !dead[NAME(p)])
