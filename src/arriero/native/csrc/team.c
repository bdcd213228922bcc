/* A team of threads that waits for work: it spins shortly, then sleeps. Safe to fork: a child starts its own. */
#define _GNU_SOURCE
#include "arriero.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#define relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("yield")
#else
#define relax() ((void)0)
#endif

enum { MOST_THREADS = 256, SPINS = 3000, BARRIER_SPINS = 2000 };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* one call of the team at a time */
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_there = PTHREAD_COND_INITIALIZER;
static pthread_cond_t work_done = PTHREAD_COND_INITIALIZER;

static void (*team_body)(void *, int, int);
static void *team_arg;
static int wanted_threads = 1; /* read and written under `turn` */
static int workers;            /* threads that run, without the callers */
static atomic_int team_parts;
static atomic_uint generation;
static atomic_int pending, sleepers, caller_sleeps;
static _Thread_local int inside; /* this thread is in a body, or holds `turn` */

static unsigned wait_for_work(unsigned seen) {
    for (int i = 0; i < SPINS; ++i) {
        if (atomic_load_explicit(&generation, memory_order_acquire) != seen) return seen + 1;
        relax();
    }
    pthread_mutex_lock(&sleep_lock);
    atomic_fetch_add(&sleepers, 1);
    while (atomic_load(&generation) == seen) pthread_cond_wait(&work_there, &sleep_lock);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&sleep_lock);
    return seen + 1;
}

typedef struct {
    int part;
    unsigned seen;
} start;
static start starts[MOST_THREADS];

static void *worker(void *arg) {
    const start *from = arg;
    const int part = from->part;
    unsigned seen = from->seen;
    inside = 1;
    for (;;) {
        seen = wait_for_work(seen);
        const int parts = atomic_load(&team_parts);
        if (part < parts) team_body(team_arg, part, parts);
        if (atomic_fetch_sub(&pending, 1) == 1 && atomic_load(&caller_sleeps)) {
            pthread_mutex_lock(&sleep_lock);
            pthread_cond_signal(&work_done);
            pthread_mutex_unlock(&sleep_lock);
        }
    }
    return NULL;
}

/* Surplus workers stay, asleep: a body with fewer parts passes them by. */
static void start_workers(void) {
    while (workers < wanted_threads - 1) {
        pthread_t thread;
        pthread_attr_t attributes;
        starts[workers] = (start){workers + 1, atomic_load(&generation)};
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(&thread, &attributes, worker, &starts[workers]);
        pthread_attr_destroy(&attributes);
        if (failed) {
            wanted_threads = workers + 1; /* the system gives no more threads: work with what there is */
            return;
        }
        ++workers;
    }
}

static void wait_for_workers(void) {
    for (int i = 0; i < SPINS; ++i) {
        if (atomic_load_explicit(&pending, memory_order_acquire) == 0) return;
        relax();
    }
    pthread_mutex_lock(&sleep_lock);
    atomic_store(&caller_sleeps, 1);
    while (atomic_load(&pending) != 0) pthread_cond_wait(&work_done, &sleep_lock);
    atomic_store(&caller_sleeps, 0);
    pthread_mutex_unlock(&sleep_lock);
}

static void before_fork(void) {
    if (!inside) pthread_mutex_lock(&turn);
}

static void after_fork_in_parent(void) {
    if (!inside) pthread_mutex_unlock(&turn);
}

static void after_fork_in_child(void) {
    pthread_mutex_init(&turn, NULL);
    pthread_mutex_init(&sleep_lock, NULL);
    pthread_cond_init(&work_there, NULL);
    pthread_cond_init(&work_done, NULL);
    workers = 0; /* threads do not survive a fork */
    inside = 0;
    atomic_store(&pending, 0);
    atomic_store(&sleepers, 0);
    atomic_store(&caller_sleeps, 0);
}

__attribute__((constructor)) static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void run_team(void (*body)(void *, int, int), void *arg) {
    start_workers();
    const int parts = wanted_threads;
    if (parts <= 1) {
        body(arg, 0, 1);
        return;
    }
    team_body = body;
    team_arg = arg;
    atomic_store(&team_parts, parts);
    atomic_store(&pending, workers);
    atomic_fetch_add(&generation, 1);
    if (atomic_load(&sleepers)) {
        pthread_mutex_lock(&sleep_lock);
        pthread_cond_broadcast(&work_there);
        pthread_mutex_unlock(&sleep_lock);
    }
    body(arg, 0, parts);
    wait_for_workers();
}

void ar_parallel(void (*body)(void *, int part, int parts), void *arg) {
    if (inside) {
        body(arg, 0, 1);
        return;
    }
    pthread_mutex_lock(&turn);
    inside = 1;
    run_team(body, arg);
    inside = 0;
    pthread_mutex_unlock(&turn);
}

void ar_set_threads(int n) {
    if (inside) return;
    pthread_mutex_lock(&turn);
    wanted_threads = n < 1 ? 1 : n > MOST_THREADS ? MOST_THREADS : n;
    pthread_mutex_unlock(&turn);
}

int ar_get_threads(void) {
    if (inside) return wanted_threads;
    pthread_mutex_lock(&turn);
    const int n = wanted_threads;
    pthread_mutex_unlock(&turn);
    return n;
}

void ar_barrier_wait(ar_barrier *barrier, int parts) {
    if (parts <= 1) return;
    const int32_t phase = __atomic_load_n(&barrier->phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == parts) {
        __atomic_store_n(&barrier->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&barrier->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int i = 0; __atomic_load_n(&barrier->phase, __ATOMIC_ACQUIRE) == phase; ++i) {
        if (i < BARRIER_SPINS) relax();
        else sched_yield(); /* another program has the core of a part that is still at work */
    }
}
