/* Causal attention for training: its items, shared among threads. The kernels are in the files of its two passes. */
#include "training_attention.h"

int ar_causal_there(void) { return ar_has_bf16(); }

#if defined(__x86_64__)
typedef struct {
    ar_causal *work;
    size_t bytes;
    void (*item)(const ar_causal *work, int row, int kv_head, char *scratch);
} pass;

static void take_items(void *arg) {
    const pass *p = arg;
    ar_causal *work = p->work;
    char *scratch = ar_training_scratch(p->bytes);
    if (!scratch) {
        __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    for (;;) {
        const int item = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        if (item >= work->rows * work->kv_heads) return;
        p->item(work, item / work->kv_heads, item % work->kv_heads, scratch);
    }
}

static int run(const pass *p) {
    const int items = p->work->rows * p->work->kv_heads, threads = p->work->threads;
    ar_training_parallel(take_items, (void *)p, threads < items ? threads : items);
    return p->work->failed;
}

int ar_causal_forward(ar_causal *work) {
    const pass p = {work, ar_causal_forward_bytes(work), ar_causal_forward_item};
    return run(&p);
}

int ar_causal_backward(ar_causal *work) {
    const pass p = {work, ar_causal_backward_bytes(work), ar_causal_backward_item};
    return run(&p);
}
#else
int ar_causal_forward(ar_causal *work) { return work->failed = 1; }
int ar_causal_backward(ar_causal *work) { return work->failed = 1; }
#endif
