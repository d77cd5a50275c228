/* Owns the walk over a stack with the unwind tables that every library has (few keep frame
 * pointers). Any thread, also in signal handlers: libgcc finds the tables without a lock (glibc
 * 2.35 and later) and allocates nothing.
 *
 * At an arbitrary instruction, as in a signal handler, hand-written code may have wrong tables.
 * Following them can access unmapped memory. That fault is caught. */
#include "profile/stack.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <ucontext.h>
#include <unwind.h>

struct stack_walk {
    uintptr_t *frames;
    size_t depth, skip;
    uintptr_t from; /* not 0: addresses before this one are skipped */
};

#define TLS _Thread_local __attribute__((tls_model("initial-exec")))
static TLS sigjmp_buf fault_exit;
static TLS volatile sig_atomic_t walking;
static struct sigaction before_segv, before_bus;
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned guards; /* under guard_lock */

static _Unwind_Reason_Code stack_visit_frame(struct _Unwind_Context *context, void *argument) {
    struct stack_walk *walk = argument;
    int exact = 0;
    uintptr_t address = _Unwind_GetIPInfo(context, &exact);
    if (address == 0 || walk->depth == STACK_DEPTH_MAX) {
        return _URC_END_OF_STACK;
    }
    if (walk->from != 0) {
        if (address != walk->from) {
            return _URC_NO_REASON;
        }
        walk->from = 0;
    }
    if (walk->skip > 0) {
        walk->skip--;
        return _URC_NO_REASON;
    }
    walk->frames[walk->depth++] = exact ? address : address - 1;
    return _URC_NO_REASON;
}

__attribute__((noinline)) size_t stack_capture(uintptr_t frames[STACK_DEPTH_MAX], size_t skip) {
    struct stack_walk walk = {.frames = frames, .skip = skip + 1};
    _Unwind_Backtrace(stack_visit_frame, &walk);
    return walk.depth;
}

static uintptr_t stack_interrupted_address(const void *context) {
    const ucontext_t *at = context;
#if defined(__x86_64__)
    return (uintptr_t)at->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)at->uc_mcontext.pc;
#else
    (void)at;
    return 0;
#endif
}

size_t stack_capture_interrupted(uintptr_t frames[STACK_DEPTH_MAX], const void *context) {
    /* Volatile: read after a jump back. */
    static TLS struct stack_walk walk;
    int error = errno;
    uintptr_t from = stack_interrupted_address(context);
    walk = (struct stack_walk){.frames = frames, .from = from};
    if (sigsetjmp(fault_exit, 1) == 0) {
        walking = 1;
        _Unwind_Backtrace(stack_visit_frame, &walk);
    }
    walking = 0;
    if (walk.depth == 0 && from != 0) { /* at least its previous value */
        frames[0] = from;
        walk.depth = 1;
    }
    errno = error;
    return walk.depth;
}

void stack_prepare(void) {
    uintptr_t frames[STACK_DEPTH_MAX];
    (void)stack_capture(frames, 0);
}

/* ---- faults while walking -------------------------------------------------------------------- */

static void stack_on_fault(int number, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    if (walking) {
        walking = 0;
        siglongjmp(fault_exit, 1);
    }
    /* Another fault: behaves as without a handler; the instruction runs and fails again. */
    sigaction(number, number == SIGSEGV ? &before_segv : &before_bus, NULL);
}

void stack_guard(void) {
    struct sigaction action = {.sa_sigaction = stack_on_fault, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&guard_lock);
    if (guards++ == 0) {
        sigaction(SIGSEGV, &action, &before_segv);
        sigaction(SIGBUS, &action, &before_bus);
    }
    pthread_mutex_unlock(&guard_lock);
}

void stack_unguard(void) {
    pthread_mutex_lock(&guard_lock);
    if (--guards == 0) {
        sigaction(SIGSEGV, &before_segv, NULL);
        sigaction(SIGBUS, &before_bus, NULL);
    }
    pthread_mutex_unlock(&guard_lock);
}
