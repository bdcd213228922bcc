/* Threads of the training kernels: those that torch's own operations run on, where they can be had. */
#ifndef AR_TRAINING_THREADS_H
#define AR_TRAINING_THREADS_H

#include "kernels.h"

/* body(arg) by so many threads at once, the caller among them; which of the work a thread does, it finds out itself. */
void ar_training_parallel(void (*body)(void *), void *arg, int threads);

/* Where this thread may write until it asks again: at least so many bytes, aligned to 64; NULL: there is no memory. */
void *ar_training_scratch(size_t bytes);

#endif
