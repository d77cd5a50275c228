/* Owns profiles made by signals to threads, and the handler that takes the stacks. The asking
 * thread and, for a moment, each thread that is asked. The handler takes no lock and allocates
 * nothing: it writes into `slots`, which are made at the first profile and never freed, since a
 * signal may come late.
 *
 * CPU: each thread has a timer of its own processor time (a timer of the whole process would ask
 * mostly the main thread). Threads: each gets the signal directly and fills its own slot.
 *
 * A sleep that a signal interrupts is not always restarted (epoll_wait, poll): whoever waits treats
 * EINTR as having waited. */
#include "profile/signals.h"

#ifdef MQFLEET_NO_PROFILE

enum err cpu_profile_take(struct profile **out, int seconds, bool (*stopped)(void *context),
                          void *context) {
    (void)out, (void)seconds, (void)stopped, (void)context;
    return ERR_UNSUPPORTED;
}

enum err threads_profile_take(struct profile **out) {
    (void)out;
    return ERR_UNSUPPORTED;
}

#else

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "profile/stack.h"

#define SIGNAL_CPU     SIGPROF
#define SIGNAL_THREADS (SIGRTMIN + 5)
#define SLOTS_CPU      65536 /* 300 s of two busy processors; full, a profile ends */
#define THREADS_MAX    4096
#define NAME_LEN       16
#define TURN_NS        100000000
#define ANSWER_TURNS   1000
#define NS_PER_S       INT64_C(1000000000)
#define PERIOD_NS      (NS_PER_S / CPU_PROFILE_HZ)

struct slot {
    pid_t thread;
    atomic_bool full;
    uint16_t depth;
    uintptr_t frames[STACK_DEPTH_MAX];
};

struct thread {
    pid_t id;
    char name[NAME_LEN];
    timer_t timer;
    bool timed;
};

/* One for each kind of profile, so that one of seconds does not keep the others waiting. */
static struct taker {
    pthread_mutex_t one_at_a_time;
    size_t slots_max;
    struct slot *slots;
    struct thread *threads; /* under one_at_a_time, as the count */
    size_t thread_count;
    bool handled;
    int last; /* generation */
    atomic_size_t slots_used;
    atomic_int generation; /* of the profile that runs; 0: none. Carried by its signals */
    atomic_int in_handlers;
} of_cpu = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER, .slots_max = SLOTS_CPU},
  of_threads = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER, .slots_max = THREADS_MAX};

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void rest(long ns) {
    struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL); /* short if a signal comes: then the next turn is early */
}

/* ---- the handler ----------------------------------------------------------------------------- */

static void on_signal(int number, siginfo_t *info, void *context) {
    int error = errno;
    struct taker *taker = number == SIGNAL_CPU ? &of_cpu : &of_threads;
    atomic_fetch_add(&taker->in_handlers, 1);
    /* One of an earlier profile, or someone else's kill(), finds no generation of its own. */
    if ((info->si_code == SI_TIMER || info->si_code == SI_QUEUE) && info->si_value.sival_int != 0 &&
        info->si_value.sival_int == atomic_load(&taker->generation)) {
        size_t index = atomic_fetch_add(&taker->slots_used, 1);
        if (index < taker->slots_max) {
            struct slot *slot = &taker->slots[index];
            slot->thread = (pid_t)syscall(SYS_gettid);
            slot->depth = (uint16_t)stack_capture_interrupted(slot->frames, context);
            atomic_store(&slot->full, true);
        }
    }
    atomic_fetch_sub(&taker->in_handlers, 1);
    errno = error;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void read_name(struct thread *thread) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)thread->id);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(thread->name, sizeof(thread->name), file) != NULL) {
            thread->name[strcspn(thread->name, "\n")] = '\0';
        }
        fclose(file);
    }
}

static struct thread *thread_of(const struct taker *taker, pid_t id) {
    for (size_t i = 0; i < taker->thread_count; i++) {
        if (taker->threads[i].id == id) {
            return &taker->threads[i];
        }
    }
    return NULL;
}

/* A timer of the thread's processor time; its first tick comes anywhere in a period, so that
 * threads which use less than one are seen as often as they ought to be. */
static void time_thread(struct thread *thread) {
    enum { PER_THREAD = 4, BY_SCHEDULER = 2 }; /* as pthread_getcpuclockid makes them */
    clockid_t clock = (clockid_t)(~(unsigned)thread->id << 3 | PER_THREAD | BY_SCHEDULER);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL_CPU};
    event.sigev_value.sival_int = atomic_load(&of_cpu.generation);
    event._sigev_un._tid = thread->id;
    struct itimerspec times = {.it_interval.tv_nsec = PERIOD_NS};
    times.it_value.tv_nsec = 1 + random() % PERIOD_NS;
    thread->timed = timer_create(clock, &event, &thread->timer) == 0;
    if (thread->timed) {
        timer_settime(thread->timer, 0, &times, NULL);
    }
}

/* Adds those that are new; their number is bounded, and so is the search for each. */
static void find_threads(struct taker *taker, void (*found)(struct thread *thread)) {
    struct dirent *entry;
    DIR *folder = opendir("/proc/self/task");
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        pid_t id = (pid_t)strtol(entry->d_name, NULL, 10);
        if (id <= 0 || taker->thread_count == THREADS_MAX || thread_of(taker, id) != NULL) {
            continue;
        }
        struct thread *thread = &taker->threads[taker->thread_count++];
        memset(thread, 0, sizeof(*thread));
        thread->id = id;
        read_name(thread);
        found(thread);
    }
    if (folder != NULL) {
        closedir(folder);
    }
}

/* ---- a profile ------------------------------------------------------------------------------- */

static bool make_room(struct taker *taker) {
    if (taker->slots == NULL) {
        taker->slots =
            calloc(taker->slots_max, sizeof(*taker->slots)); /* untouched: costs nothing */
    }
    if (taker->threads == NULL) {
        taker->threads = calloc(THREADS_MAX, sizeof(*taker->threads));
    }
    return taker->slots != NULL && taker->threads != NULL;
}

static enum err begin(struct taker *taker) {
    if (!make_room(taker)) {
        return ERR_MEMORY;
    }
    if (!taker->handled) {
        struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigfillset(&action.sa_mask);
        sigdelset(&action.sa_mask, SIGSEGV);
        sigdelset(&action.sa_mask, SIGBUS);
        stack_prepare();
        /* It stays: a late signal must not end the process. */
        sigaction(taker == &of_cpu ? SIGNAL_CPU : SIGNAL_THREADS, &action, NULL);
        taker->handled = true;
    }
    taker->thread_count = 0;
    atomic_store(&taker->slots_used, 0);
    stack_guard();
    taker->last = taker->last == INT32_MAX ? 1 : taker->last + 1;
    atomic_store(&taker->generation, taker->last);
    return ERR_OK;
}

/* No handler writes after this, but one that has hung for a second: then its slot is left alone. */
static void end(struct taker *taker) {
    atomic_store(&taker->generation, 0);
    for (int i = 0; i < ANSWER_TURNS && atomic_load(&taker->in_handlers) > 0; i++) {
        rest(1000000);
    }
    stack_unguard();
}

static size_t used(struct taker *taker) {
    size_t count = atomic_load(&taker->slots_used);
    return count < taker->slots_max ? count : taker->slots_max;
}

/* What was touched goes back to the system, and reads as zero from then on. */
static void clear_slots(struct taker *taker) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)taker->slots;
    uintptr_t end = (begin + taker->slots_max * sizeof(*taker->slots)) / page * page;
    for (size_t i = 0; i < used(taker); i++) {
        atomic_store(&taker->slots[i].full, false);
    }
    begin = (begin + page - 1) / page * page;
    madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* values: of each sample. */
static enum err add_samples(struct taker *taker, struct profile *profile, const int64_t *values) {
    enum err result = ERR_OK;
    for (size_t i = 0; i < used(taker) && result == ERR_OK; i++) {
        struct slot *slot = &taker->slots[i];
        if (atomic_load(&slot->full)) {
            struct thread *thread = thread_of(taker, slot->thread);
            result = profile_add(profile, slot->frames, slot->depth, values,
                                 thread != NULL ? thread->name : NULL);
        }
    }
    return result;
}

static enum err finish(struct taker *taker, struct profile **out, struct profile *profile,
                       enum err result) {
    clear_slots(taker);
    if (result != ERR_OK) {
        profile_destroy(profile);
        return result;
    }
    *out = profile;
    return ERR_OK;
}

static enum err cpu_profile(struct profile **out, int seconds, bool (*stopped)(void *context),
                            void *context) {
    static const struct profile_type types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
    static const int64_t values[] = {1, PERIOD_NS};
    struct profile *profile = profile_create(types, 2, types[1], PERIOD_NS);
    enum err result = profile != NULL ? begin(&of_cpu) : ERR_MEMORY;
    if (result != ERR_OK) {
        profile_destroy(profile);
        return result;
    }
    int64_t begun_at_ns = now_ns(CLOCK_REALTIME), begun_ns = now_ns(CLOCK_MONOTONIC);
    /* Full, it ends early and says how long it was, rather than to show only its beginning. */
    while (now_ns(CLOCK_MONOTONIC) - begun_ns < seconds * NS_PER_S && !stopped(context) &&
           used(&of_cpu) < SLOTS_CPU) {
        find_threads(&of_cpu, time_thread);
        rest(TURN_NS);
    }
    for (size_t i = 0; i < of_cpu.thread_count; i++) {
        if (of_cpu.threads[i].timed) {
            timer_delete(of_cpu.threads[i].timer);
        }
    }
    end(&of_cpu);
    profile_took(profile, begun_at_ns, now_ns(CLOCK_MONOTONIC) - begun_ns);
    return finish(&of_cpu, out, profile, add_samples(&of_cpu, profile, values));
}

enum err cpu_profile_take(struct profile **out, int seconds, bool (*stopped)(void *context),
                          void *context) {
    if (pthread_mutex_trylock(&of_cpu.one_at_a_time) != 0) {
        return ERR_EXISTS;
    }
    enum err result = cpu_profile(out, seconds, stopped, context);
    pthread_mutex_unlock(&of_cpu.one_at_a_time);
    return result;
}

static void ask_thread(struct thread *thread) {
    siginfo_t info = {.si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = atomic_load(&of_threads.generation);
    thread->timed =
        syscall(SYS_rt_tgsigqueueinfo, getpid(), thread->id, SIGNAL_THREADS, &info) == 0;
}

static size_t answered(void) {
    size_t count = 0;
    for (size_t i = 0; i < used(&of_threads); i++) {
        count += atomic_load(&of_threads.slots[i].full);
    }
    return count;
}

static bool has_answered(pid_t id) {
    for (size_t i = 0; i < used(&of_threads); i++) {
        struct slot *slot = &of_threads.slots[i];
        if (atomic_load(&slot->full) && slot->thread == id) {
            return true;
        }
    }
    return false;
}

static enum err threads_profile(struct profile **out) {
    static const struct profile_type types[] = {{"threads", "count"}};
    static const int64_t one = 1;
    struct profile *profile = profile_create(types, 1, types[0], 1);
    enum err result = profile != NULL ? begin(&of_threads) : ERR_MEMORY;
    if (result != ERR_OK) {
        profile_destroy(profile);
        return result;
    }
    find_threads(&of_threads, ask_thread);
    for (int i = 0; i < ANSWER_TURNS && answered() < of_threads.thread_count; i++) {
        rest(1000000);
    }
    end(&of_threads);
    profile_took(profile, now_ns(CLOCK_REALTIME), 0);
    result = add_samples(&of_threads, profile, &one);
    for (size_t i = 0; i < of_threads.thread_count && result == ERR_OK; i++) {
        if (!has_answered(of_threads.threads[i].id)) {
            result = profile_add(profile, NULL, 0, &one, of_threads.threads[i].name);
        }
    }
    return finish(&of_threads, out, profile, result);
}

enum err threads_profile_take(struct profile **out) {
    if (pthread_mutex_trylock(&of_threads.one_at_a_time) != 0) {
        return ERR_EXISTS;
    }
    enum err result = threads_profile(out);
    pthread_mutex_unlock(&of_threads.one_at_a_time);
    return result;
}

#endif
