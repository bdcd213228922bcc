/* Threads of the training kernels, which run between operations of torch.
 *
 * torch's threads (OpenMP's) wait for their next work by spinning for some milliseconds. A second team would have to share
 * the processor with them, so that theirs is borrowed: Python looks up GOMP_parallel in the library that torch has
 * loaded. Without it the team of this library does the work. */
#include "training_threads.h"

#include <pthread.h>
#include <stdlib.h>

typedef void (*openmp_parallel)(void (*body)(void *), void *arg, unsigned threads, unsigned flags);
static openmp_parallel borrowed;

AR_EXPORT void ar_training_borrow(void *parallel) { borrowed = (openmp_parallel)parallel; }

typedef struct {
    void (*body)(void *);
    void *arg;
    int threads;
} job;

static void as_part(void *arg, int part, int parts) {
    const job *j = arg;
    (void)parts;
    if (part < j->threads) j->body(j->arg);
}

void ar_training_parallel(void (*body)(void *), void *arg, int threads) {
    if (threads <= 1) {
        body(arg);
    } else if (borrowed) {
        borrowed(body, arg, (unsigned)threads, 0);
    } else {
        job j = {body, arg, threads};
        ar_set_threads(threads);
        ar_parallel(as_part, &j);
    }
}

/* ---- scratch: kept by its thread, so that pages are not asked for again with every call ---- */

typedef struct {
    void *memory;
    size_t bytes;
} held;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local held own;

static void let_go(void *memory) { free(memory); }
static void make_key(void) { pthread_key_create(&key, let_go); }

void *ar_training_scratch(size_t bytes) {
    bytes = (bytes + 63) & ~(size_t)63;
    if (bytes > own.bytes) {
        pthread_once(&once, make_key);
        free(own.memory);
        own.memory = aligned_alloc(64, bytes);
        own.bytes = own.memory ? bytes : 0;
        pthread_setspecific(key, own.memory);
    }
    return own.memory;
}
