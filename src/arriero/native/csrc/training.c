/* The passes of a training step from Python: cut into pieces that threads take. A piece is a matter of the sizes alone, so
 * that no result depends on how many threads there are. */
#include "training.h"
#include "training_threads.h"

#include <string.h>

enum { PIECE = 1 << 15, NORM_ROWS = 64, MOST_BLOCKS = 64, LOSS_ROWS = 8 };

typedef struct {
    void (*piece)(void *work, long piece);
    void *work;
    long pieces, next;
} queue;

static void take_pieces(void *arg) {
    queue *q = arg;
    for (;;) {
        const long piece = __atomic_fetch_add(&q->next, 1, __ATOMIC_RELAXED);
        if (piece >= q->pieces) return;
        q->piece(q->work, piece);
    }
}

static void in_pieces(void (*piece)(void *, long), const void *work, long pieces, int threads) {
    queue q = {piece, (void *)work, pieces, 0};
    ar_training_parallel(take_pieces, &q, pieces < threads ? (int)pieces : threads);
}

static long up_to(long a, long b) { return a < b ? a : b; }
static long pieces_of(long n, long size) { return (n + size - 1) / size; }

static int own_rounding = 1;

void ar_training_rounding(int own) { own_rounding = own; }

static const ar_training_kernels *kernels(void) {
#if defined(__x86_64__)
    if (own_rounding && ar_has_bf16()) return &ar_training_avx512bf16;
    if (ar_level() >= AR_AVX512) return &ar_training_avx512;
#endif
    return NULL;
}

int ar_training_there(void) { return kernels() != NULL; }

static void gate_piece(void *arg, long piece) {
    const ar_gate_work *work = arg;
    const long first = piece * PIECE, last = up_to(first + PIECE, work->n);
    if (work->gradient) kernels()->gate_backward(work, first, last);
    else kernels()->gate(work, first, last);
}

void ar_gate(const ar_gate_work *work, int threads) { in_pieces(gate_piece, work, pieces_of(work->n, PIECE), threads); }

/* rows of a piece, whose share of the weight's gradient is added up by itself */
static long norm_rows(long rows) {
    const long most = pieces_of(rows, MOST_BLOCKS);
    return most > NORM_ROWS ? most : NORM_ROWS;
}

static void norm_piece(void *arg, long piece) {
    const ar_norm_work *work = arg;
    const long step = norm_rows(work->rows), first = piece * step;
    kernels()->norm(work, first, up_to(first + step, work->rows));
}

void ar_norm(const ar_norm_work *work, int threads) {
    in_pieces(norm_piece, work, pieces_of(work->rows, norm_rows(work->rows)), threads);
}

static void norm_backward_piece(void *arg, long piece) {
    const ar_norm_work *work = arg;
    const long step = norm_rows(work->rows), first = piece * step;
    float *dweight = work->partial + piece * work->width;
    memset(dweight, 0, (size_t)work->width * sizeof(float));
    kernels()->norm_backward(work, first, up_to(first + step, work->rows), dweight);
}

long ar_norm_scratch(long rows, int width) { return pieces_of(rows, norm_rows(rows)) * width; }

void ar_norm_backward(const ar_norm_work *work, int threads) {
    const long pieces = pieces_of(work->rows, norm_rows(work->rows));
    in_pieces(norm_backward_piece, work, pieces, threads);
    memset(work->dweight, 0, (size_t)work->width * sizeof(float));
    for (long piece = 0; piece < pieces; ++piece) {
        const float *partial = work->partial + piece * work->width;
        for (int i = 0; i < work->width; ++i) work->dweight[i] += partial[i];
    }
}

static void loss_piece(void *arg, long piece) {
    ar_loss_work *work = arg;
    const long first = piece * LOSS_ROWS;
    float *row = ar_training_scratch((size_t)work->vocab * sizeof(float));
    if (row) kernels()->loss(work, first, up_to(first + LOSS_ROWS, work->rows), row);
    else __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
}

int ar_loss(ar_loss_work *work, int threads) {
    work->failed = 0;
    in_pieces(loss_piece, work, pieces_of(work->rows, LOSS_ROWS), threads);
    double total = 0;
    for (long row = 0; row < work->rows; ++row) total += work->losses[row];
    work->total = (float)total;
    return work->failed;
}

static void sum_piece(void *arg, long piece) {
    const ar_sum_work *work = arg;
    const long first = piece * PIECE, last = up_to(first + PIECE, work->n);
    kernels()->sum(work, first, last);
}

void ar_sum(const ar_sum_work *work, int threads) { in_pieces(sum_piece, work, pieces_of(work->n, PIECE), threads); }
