/* A frozen linear under the low-rank adapters of many configurations, forward and backward, configuration by configuration.
 *
 * Adapter route: y = W x + B (gamma A x). Merged route: M = W + gamma B A once, y = M x; on the way back G = V'X once, from which both
 * gradients follow. The frozen weight is packed once for all configurations; what one configuration touches stays in the cache.
 */
#ifndef RSV_LINEAR_H
#define RSV_LINEAR_H
#include "pointwise.h"
#include "product.h"

/* Neighbouring copies [lo, hi) of one rank. A (rank, d_in), B (d_out, rank) and their gradients are those of copy `lo`, the next copy's lie
 * `stride` REALs on; a gradient that is not wanted is NULL. gamma (hi - lo,). kept: gamma X A' (copies, n, rank) on the adapter route,
 * W + gamma B A (copies, d_out, d_in) on the merged one, from forward to backward. */
typedef struct {
    int64_t lo, hi, rank, merged, stride;
    const REAL *A, *B, *gamma;
    REAL *grad_A, *grad_B, *kept;
} rsv_part;

static inline int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

/* REALs of scratch of `rsv_linear` and `rsv_linear_back`: packed weight, packed operand of a configuration, and V B or V'X. */
int64_t rsv_linear_scratch(int64_t n, int64_t d_in, int64_t d_out, int64_t rank)
{
    const int64_t weight = greater(packed_size(d_in, d_out), packed_size(d_out, d_in));
    const int64_t narrow = greater(packed_size(d_in, rank), greater(packed_size(rank, d_out), greater(packed_size(n, rank), packed_size(d_out, rank))));
    /* The last is V'X, which `back_merged` packs. */
    const int64_t wide = greater(packed_size(rank, d_in), greater(packed_size(n, d_in), packed_size(d_out, d_in)));
    return 2 * weight + greater(narrow, wide) + greater(n * rank, d_out * d_in) + LANES;
}

/* What one adapter adds, into Y (n, d_out). */
static void add_forward(const rsv_part *part, int64_t i, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, REAL *Y, REAL *scratch)
{
    const int64_t r = part->rank;
    const REAL *A = part->A + i * part->stride, *B = part->B + i * part->stride;
    if (part->merged) {
        REAL *D = part->kept + i * d_out * d_in;
        product(d_out, d_in, r, B, r, 1, A, d_in, 1, D, d_in, part->gamma[i], 0, scratch);
        product(n, d_out, d_in, X, d_in, 1, D, 1, d_in, Y, d_out, 1, 0, scratch);
    } else {
        REAL *h = part->kept + i * n * r;
        product(n, r, d_in, X, d_in, 1, A, 1, d_in, h, r, part->gamma[i], 0, scratch);
        product(n, d_out, r, h, r, 1, B, 1, r, Y, d_out, 1, 0, scratch);
    }
}

static const rsv_part *part_of(int64_t copy, const rsv_part *parts, int64_t count)
{
    for (int64_t k = 0; k < count; k++)
        if (parts[k].lo <= copy && copy < parts[k].hi) return parts + k;
    return 0;
}

static void add_to(int64_t count, const REAL *from, REAL *to)
{
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) store(to + j, load(to + j) + load(from + j));
    for (; j < count; j++) to[j] += from[j];
}

/* Y = X W' + what the adapters add (+ `beside`, where one is given). X (copies, n, d_in), W (d_out, d_in), Y and beside (copies, n, d_out);
 * squares (copies,) or NULL: the squared norm of what each copy's adapter adds, zero where it has none here, is added to it. */
void rsv_linear(int64_t copies, int64_t n, int64_t d_in, int64_t d_out, const REAL *W, const REAL *X, const REAL *beside, REAL *Y,
                const rsv_part *parts, int64_t count, REAL *squares, REAL *scratch)
{
    REAL *packed = scratch, *rest = scratch + packed_size(d_in, d_out);
    pack(d_in, d_out, W, 1, d_in, packed);
    for (int64_t c = 0; c < copies; c++, X += n * d_in, Y += n * d_out) {
        const rsv_part *part = part_of(c, parts, count);
        if (part) {
            add_forward(part, c - part->lo, n, d_in, d_out, X, Y, rest);
            if (squares) squares[c] += square_sum(n * d_out, Y);
            if (part->merged) add_to(d_out * d_in, W, part->kept + (c - part->lo) * d_out * d_in);
        }
        product_packed(n, d_out, d_in, X, d_in, 1, packed, Y, d_out, 1, part != 0);
        if (beside) add_to(n * d_out, beside + c * n * d_out, Y);
    }
}

/* Gradients of one adapter's factors from V (n, d_out) by V B, whose product with A is added to dX where one is wanted. */
static void back_beside(const rsv_part *part, int64_t i, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, const REAL *V, REAL *dX, REAL *u,
                        REAL *scratch)
{
    const int64_t r = part->rank, at = i * part->stride;
    if (part->grad_B) product(d_out, r, n, V, 1, d_out, part->kept + i * n * r, r, 1, part->grad_B + at, r, 1, 0, scratch);
    if (!dX && !part->grad_A) return;
    product(n, r, d_out, V, d_out, 1, part->B + at, r, 1, u, r, part->gamma[i], 0, scratch);
    if (dX) product(n, d_in, r, u, r, 1, part->A + at, d_in, 1, dX, d_in, 1, 1, scratch);
    if (part->grad_A) product(r, d_in, n, u, 1, r, X, d_in, 1, part->grad_A + at, d_in, 1, 0, scratch);
}

/* The same on the merged route, by G = V'X (d_out, d_in). */
static void back_merged(const rsv_part *part, int64_t i, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, const REAL *V, REAL *G,
                        REAL *scratch)
{
    const int64_t r = part->rank, at = i * part->stride;
    product(d_out, d_in, n, V, 1, d_out, X, d_in, 1, G, d_in, part->gamma[i], 0, scratch);
    if (part->grad_B) product(d_out, r, d_in, G, d_in, 1, part->A + at, 1, d_in, part->grad_B + at, r, 1, 0, scratch);
    if (part->grad_A) product(r, d_in, d_out, part->B + at, 1, r, G, d_in, 1, part->grad_A + at, d_in, 1, 0, scratch);
}

/* Gradients of all factors, and the signal dX (copies, n, d_in) of the input, added to it where `add`; NULL where it is not wanted.
 * V (copies, n, d_out); the others as in `rsv_linear`. */
void rsv_linear_back(int64_t copies, int64_t n, int64_t d_in, int64_t d_out, const REAL *W, const REAL *X, const REAL *V, REAL *dX, int add,
                     const rsv_part *parts, int64_t count, REAL *scratch)
{
    const int64_t size = packed_size(d_out, d_in);
    REAL *packed = scratch, *merged = scratch + size, *middle = merged + size, *rest;
    if (dX) pack(d_out, d_in, W, d_in, 1, packed);
    for (int64_t c = 0; c < copies; c++, X += n * d_in, V += n * d_out) {
        const rsv_part *part = part_of(c, parts, count);
        REAL *mine = dX ? dX + c * n * d_in : 0;
        rest = middle + (part && !part->merged ? n * part->rank : d_out * d_in);
        if (dX && part && part->merged)
            product(n, d_in, d_out, V, d_out, 1, part->kept + (c - part->lo) * d_out * d_in, d_in, 1, mine, d_in, 1, add, merged);
        else if (dX)
            product_packed(n, d_in, d_out, V, d_out, 1, packed, mine, d_in, 1, add);
        if (part && part->merged)
            back_merged(part, c - part->lo, n, d_in, d_out, X, V, middle, rest);
        else if (part)
            back_beside(part, c - part->lo, n, d_in, d_out, X, V, mine, middle, rest);
    }
}
#endif
