/* Owns the profiles made by signals to threads, and the handler that records the stacks. Runs on
 * the requesting thread and briefly on each sampled thread. The handler takes no lock and allocates
 * nothing. It writes into `slots`, which are created at the first profile and never freed, because
 * a signal may arrive late.
 *
 * CPU: each thread has a timer of its own processor time (a timer of the process would mostly
 * signal the main thread). Threads: each thread is signalled directly and fills its own slot.
 *
 * A sleep interrupted by a signal is not always restarted (epoll_wait, poll). Callers must treat
 * EINTR as a normal end of the wait. */
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
#define SLOTS_CPU      65536 /* 300 s of two busy processors; a profile ends when it is full */
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

struct profiled_thread {
    pid_t id;
    char name[NAME_LEN];
    timer_t timer;
    bool timer_created;
};

/* One for each kind of profile, so that a long one does not block the others. */
static struct signal_profiler {
    pthread_mutex_t one_at_a_time;
    size_t slots_max;
    struct slot *slots;
    struct profiled_thread *threads; /* one_at_a_time guards it and the count */
    size_t thread_count;
    bool handler_installed;
    int last_generation; /* generation */
    atomic_size_t slots_used;
    atomic_int generation; /* of the running profile; 0: none. Carried by its signals */
    atomic_int in_handlers;
} cpu_profiler = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER, .slots_max = SLOTS_CPU},
  threads_profiler = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER, .slots_max = THREADS_MAX};

static int64_t signals_now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void signals_sleep_ns(long ns) {
    struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL); /* shorter after a signal: the next turn is then early */
}

/* ---- the handler ----------------------------------------------------------------------------- */

static void signals_on_signal(int number, siginfo_t *info, void *context) {
    int error = errno;
    struct signal_profiler *profiler = number == SIGNAL_CPU ? &cpu_profiler : &threads_profiler;
    atomic_fetch_add(&profiler->in_handlers, 1);
    /* Signals of an earlier profile, and of an unrelated kill(), have another generation. */
    if ((info->si_code == SI_TIMER || info->si_code == SI_QUEUE) && info->si_value.sival_int != 0 &&
        info->si_value.sival_int == atomic_load(&profiler->generation)) {
        size_t index = atomic_fetch_add(&profiler->slots_used, 1);
        if (index < profiler->slots_max) {
            struct slot *slot = &profiler->slots[index];
            slot->thread = (pid_t)syscall(SYS_gettid);
            slot->depth = (uint16_t)stack_capture_interrupted(slot->frames, context);
            atomic_store(&slot->full, true);
        }
    }
    atomic_fetch_sub(&profiler->in_handlers, 1);
    errno = error;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void signals_read_name(struct profiled_thread *thread) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)thread->id);
    FILE *file = fopen(path, "re");
    if (file) {
        if (fgets(thread->name, sizeof(thread->name), file)) {
            thread->name[strcspn(thread->name, "\n")] = '\0';
        }
        fclose(file);
    }
}

static struct profiled_thread *signals_find_thread(const struct signal_profiler *profiler,
                                                   pid_t id) {
    for (size_t i = 0; i < profiler->thread_count; i++) {
        if (profiler->threads[i].id == id) {
            return &profiler->threads[i];
        }
    }
    return NULL;
}

/* Starts a timer of the thread's processor time. Its first tick is at a random time in a period, so
 * that threads which use less than a period are represented correctly. */
static void signals_start_timer(struct profiled_thread *thread) {
    enum { PER_THREAD = 4, BY_SCHEDULER = 2 }; /* as built by pthread_getcpuclockid */
    clockid_t clock = (clockid_t)(~(unsigned)thread->id << 3 | PER_THREAD | BY_SCHEDULER);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL_CPU};
    event.sigev_value.sival_int = atomic_load(&cpu_profiler.generation);
    event._sigev_un._tid = thread->id;
    struct itimerspec times = {.it_interval.tv_nsec = PERIOD_NS};
    times.it_value.tv_nsec = 1 + random() % PERIOD_NS;
    thread->timer_created = timer_create(clock, &event, &thread->timer) == 0;
    if (thread->timer_created) {
        timer_settime(thread->timer, 0, &times, NULL);
    }
}

/* Adds new threads. Their number is bounded, and so is the search for each. */
static void signals_add_new_threads(struct signal_profiler *profiler,
                                    void (*found)(struct profiled_thread *thread)) {
    struct dirent *entry;
    DIR *folder = opendir("/proc/self/task");
    while (folder && (entry = readdir(folder))) {
        pid_t id = (pid_t)strtol(entry->d_name, NULL, 10);
        if (id <= 0 || profiler->thread_count == THREADS_MAX || signals_find_thread(profiler, id)) {
            continue;
        }
        struct profiled_thread *thread = &profiler->threads[profiler->thread_count++];
        memset(thread, 0, sizeof *thread);
        thread->id = id;
        signals_read_name(thread);
        found(thread);
    }
    if (folder) {
        closedir(folder);
    }
}

/* ---- a profile ------------------------------------------------------------------------------- */

static bool signals_allocate_slots(struct signal_profiler *profiler) {
    if (!profiler->slots) {
        profiler->slots =
            calloc(profiler->slots_max, sizeof *profiler->slots); /* untouched pages cost nothing */
    }
    if (!profiler->threads) {
        profiler->threads = calloc(THREADS_MAX, sizeof *profiler->threads);
    }
    return profiler->slots && profiler->threads;
}

static enum err signals_begin(struct signal_profiler *profiler) {
    if (!signals_allocate_slots(profiler)) {
        return ERR_MEMORY;
    }
    if (!profiler->handler_installed) {
        struct sigaction action = {.sa_sigaction = signals_on_signal,
                                   .sa_flags = SA_SIGINFO | SA_RESTART};
        sigfillset(&action.sa_mask);
        sigdelset(&action.sa_mask, SIGSEGV);
        sigdelset(&action.sa_mask, SIGBUS);
        stack_prepare();
        /* The handler stays installed: a late signal must not end the process. */
        sigaction(profiler == &cpu_profiler ? SIGNAL_CPU : SIGNAL_THREADS, &action, NULL);
        profiler->handler_installed = true;
    }
    profiler->thread_count = 0;
    atomic_store(&profiler->slots_used, 0);
    stack_guard();
    profiler->last_generation =
        profiler->last_generation == INT32_MAX ? 1 : profiler->last_generation + 1;
    atomic_store(&profiler->generation, profiler->last_generation);
    return ERR_OK;
}

/* No handler writes after this, unless it has hung for a second. Then its slot is not used. */
static void signals_end(struct signal_profiler *profiler) {
    atomic_store(&profiler->generation, 0);
    for (int i = 0; i < ANSWER_TURNS && atomic_load(&profiler->in_handlers) > 0; i++) {
        signals_sleep_ns(1000000);
    }
    stack_unguard();
}

static size_t signals_used_slots(struct signal_profiler *profiler) {
    size_t count = atomic_load(&profiler->slots_used);
    return count < profiler->slots_max ? count : profiler->slots_max;
}

/* Returns touched pages to the system; they read as zero afterwards. */
static void signals_clear_slots(struct signal_profiler *profiler) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)profiler->slots;
    uintptr_t end = (begin + profiler->slots_max * sizeof *profiler->slots) / page * page;
    for (size_t i = 0; i < signals_used_slots(profiler); i++) {
        atomic_store(&profiler->slots[i].full, false);
    }
    begin = (begin + page - 1) / page * page;
    madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* values: of each sample. */
static enum err signals_add_samples(struct signal_profiler *profiler, struct profile *profile,
                                    const int64_t *values) {
    enum err err = ERR_OK;
    for (size_t i = 0; i < signals_used_slots(profiler) && err == ERR_OK; i++) {
        struct slot *slot = &profiler->slots[i];
        if (atomic_load(&slot->full)) {
            struct profiled_thread *thread = signals_find_thread(profiler, slot->thread);
            err = profile_add(profile, slot->frames, slot->depth, values,
                              thread ? thread->name : NULL);
        }
    }
    return err;
}

static enum err signals_finish(struct signal_profiler *profiler, struct profile **out,
                               struct profile *profile, enum err err) {
    signals_clear_slots(profiler);
    if (err != ERR_OK) {
        profile_destroy(profile);
        return err;
    }
    *out = profile;
    return ERR_OK;
}

static enum err signals_profile_cpu(struct profile **out, int seconds,
                                    bool (*stopped)(void *context), void *context) {
    static const struct profile_type types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
    static const int64_t values[] = {1, PERIOD_NS};
    struct profile *profile = profile_create(types, 2, types[1], PERIOD_NS);
    enum err err = profile ? signals_begin(&cpu_profiler) : ERR_MEMORY;
    if (err != ERR_OK) {
        profile_destroy(profile);
        return err;
    }
    int64_t begun_at_ns = signals_now_ns(CLOCK_REALTIME),
            begun_ns = signals_now_ns(CLOCK_MONOTONIC);
    /* When it is full, it ends early and states its duration, so that it does not show only the
     * beginning. */
    while (signals_now_ns(CLOCK_MONOTONIC) - begun_ns < seconds * NS_PER_S && !stopped(context) &&
           signals_used_slots(&cpu_profiler) < SLOTS_CPU) {
        signals_add_new_threads(&cpu_profiler, signals_start_timer);
        signals_sleep_ns(TURN_NS);
    }
    for (size_t i = 0; i < cpu_profiler.thread_count; i++) {
        if (cpu_profiler.threads[i].timer_created) {
            timer_delete(cpu_profiler.threads[i].timer);
        }
    }
    signals_end(&cpu_profiler);
    profile_set_time(profile, begun_at_ns, signals_now_ns(CLOCK_MONOTONIC) - begun_ns);
    return signals_finish(&cpu_profiler, out, profile,
                          signals_add_samples(&cpu_profiler, profile, values));
}

enum err cpu_profile_take(struct profile **out, int seconds, bool (*stopped)(void *context),
                          void *context) {
    if (pthread_mutex_trylock(&cpu_profiler.one_at_a_time) != 0) {
        return ERR_EXISTS;
    }
    enum err err = signals_profile_cpu(out, seconds, stopped, context);
    pthread_mutex_unlock(&cpu_profiler.one_at_a_time);
    return err;
}

static void signals_ask_thread(struct profiled_thread *thread) {
    siginfo_t info = {.si_code = SI_QUEUE};
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = atomic_load(&threads_profiler.generation);
    thread->timer_created =
        syscall(SYS_rt_tgsigqueueinfo, getpid(), thread->id, SIGNAL_THREADS, &info) == 0;
}

static size_t signals_answer_count(void) {
    size_t count = 0;
    for (size_t i = 0; i < signals_used_slots(&threads_profiler); i++) {
        count += atomic_load(&threads_profiler.slots[i].full);
    }
    return count;
}

static bool signals_has_answered(pid_t id) {
    for (size_t i = 0; i < signals_used_slots(&threads_profiler); i++) {
        struct slot *slot = &threads_profiler.slots[i];
        if (atomic_load(&slot->full) && slot->thread == id) {
            return true;
        }
    }
    return false;
}

static enum err signals_profile_threads(struct profile **out) {
    static const struct profile_type types[] = {{"threads", "count"}};
    static const int64_t one = 1;
    struct profile *profile = profile_create(types, 1, types[0], 1);
    enum err err = profile ? signals_begin(&threads_profiler) : ERR_MEMORY;
    if (err != ERR_OK) {
        profile_destroy(profile);
        return err;
    }
    signals_add_new_threads(&threads_profiler, signals_ask_thread);
    for (int i = 0; i < ANSWER_TURNS && signals_answer_count() < threads_profiler.thread_count;
         i++) {
        signals_sleep_ns(1000000);
    }
    signals_end(&threads_profiler);
    profile_set_time(profile, signals_now_ns(CLOCK_REALTIME), 0);
    err = signals_add_samples(&threads_profiler, profile, &one);
    for (size_t i = 0; i < threads_profiler.thread_count && err == ERR_OK; i++) {
        if (!signals_has_answered(threads_profiler.threads[i].id)) {
            err = profile_add(profile, NULL, 0, &one, threads_profiler.threads[i].name);
        }
    }
    return signals_finish(&threads_profiler, out, profile, err);
}

enum err threads_profile_take(struct profile **out) {
    if (pthread_mutex_trylock(&threads_profiler.one_at_a_time) != 0) {
        return ERR_EXISTS;
    }
    enum err err = signals_profile_threads(out);
    pthread_mutex_unlock(&threads_profiler.one_at_a_time);
    return err;
}

#endif
