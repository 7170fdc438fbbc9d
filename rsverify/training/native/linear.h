/* A frozen linear under the low-rank adapters of many configurations, forward and backward, configuration by configuration.
 *
 * Adapter route: y = W x + B (gamma A x). Merged route: M = W + gamma B A once, y = M x; on the way back G = V'X once, from which both
 * gradients follow, a block of ranks at a time. The frozen weight is packed once for all configurations; what one configuration touches
 * stays in the cache, its factors' gradients and their step among it.
 */
#ifndef RSV_LINEAR_H
#define RSV_LINEAR_H
#include "adam.h"
#include "product.h"

/* One factor of neighbouring copies, that of the first; the next copy's lies the part's `stride` REALs on, and so do g, m and s.
 * g: where the gradient is written, or NULL where it is stepped along at once; m, s: Adam's moments; lr (copies,). */
typedef struct {
    int64_t trained;
    REAL *w, *g, *m, *s;
    const REAL *lr;
} rsv_factor;

/* Neighbouring copies [lo, hi) of one rank: A (rank, d_in), B (d_out, rank), gamma (hi - lo,). kept: gamma X A' (copies, n, rank) on the
 * adapter route, W + gamma B A (copies, d_out, d_in) on the merged one, from forward to backward. adam: NULL where gradients are written. */
typedef struct {
    int64_t lo, hi, rank, merged, stride;
    const REAL *gamma;
    REAL *kept;
    const rsv_adam *adam;
    rsv_factor A, B;
} rsv_part;

enum { RANKS = 128 }; /* of a block on the merged route: both factors' gradients stay in the cache until they are used */

static inline int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

/* REALs of scratch of the functions below: packed weight, packed operand of a configuration, V B or V'X, and gradients of both factors.
 * rank: the largest, 0 for a linear without adapters. */
int64_t rsv_linear_scratch(int64_t n, int64_t d_in, int64_t d_out, int64_t rank)
{
    const int64_t weight = greater(packed_size(d_in, d_out), packed_size(d_out, d_in));
    if (!rank) return weight;
    const int64_t narrow = greater(packed_size(d_in, rank), greater(packed_size(rank, d_out), greater(packed_size(n, rank), packed_size(d_out, rank))));
    /* The last is V'X, which `back_merged` packs. */
    const int64_t wide = greater(packed_size(rank, d_in), greater(packed_size(n, d_in), packed_size(d_out, d_in)));
    return 2 * weight + greater(narrow, wide) + greater(n * rank, d_out * d_in) + rank * (d_in + d_out) + LANES;
}

/* What one adapter adds, into Y (n, d_out). */
static void add_forward(const rsv_part *part, int64_t i, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, REAL *Y, REAL *scratch)
{
    const int64_t r = part->rank;
    const REAL *A = part->A.w + i * part->stride, *B = part->B.w + i * part->stride;
    if (part->merged) {
        REAL *D = part->kept + i * d_out * d_in;
        for (int64_t j = 0; j < r; j += RANKS)
            product(d_out, d_in, lesser(r - j, RANKS), B + j, r, 1, A + j * d_in, d_in, 1, D, d_in, part->gamma[i], j > 0, scratch);
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

/* Y = X W' + what the adapters add (+ `beside`, where given). X (copies, n, d_in), W (d_out, d_in), Y and beside (copies, n, d_out);
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

/* A block of a factor's gradient on its way: rows of `width`, `ld` apart, at `g`; the same block of the factor begins at w, its rows `w_ld` apart. */
typedef struct {
    int64_t rows, width, ld, w_ld, at;
    REAL *g;
} gradient;

/* Where a block that begins `offset` entries into copy i of a factor is to be written: in the buffer of gradients, or in `spare` if it is stepped along. */
static gradient block_of(const rsv_part *part, const rsv_factor *factor, int64_t i, int64_t offset, int64_t rows, int64_t width, int64_t w_ld, REAL *spare)
{
    const int64_t at = i * part->stride + offset;
    return (gradient){rows, width, part->adam ? width : w_ld, w_ld, at, part->adam ? spare : factor->g + at};
}

/* Add a found gradient's squared norm to `square`, and take the step along it where one is to be taken. */
static void settle(const rsv_part *part, const rsv_factor *factor, int64_t i, gradient found, REAL *square)
{
    const int whole = found.ld == found.width && found.w_ld == found.width;
    const int64_t rows = whole ? 1 : found.rows, width = whole ? found.rows * found.width : found.width;
    for (int64_t row = 0; row < rows; row++) {
        const REAL *g = found.g + row * found.ld;
        const int64_t at = found.at + row * found.w_ld;
        *square += square_sum(width, g);
        if (part->adam) adam_step(part->adam, factor->lr[i], width, g, factor->w + at, factor->m + at, factor->s + at);
    }
}

/* Squared norms of both factors' gradients (copies,). */
typedef struct {
    REAL *A, *B;
} gradient_squares;

/* The gradients of one adapter from V (n, d_out) by u = V B, whose product with A is added to dX where one is wanted. */
static void back_beside(const rsv_part *part, int64_t c, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, const REAL *V, REAL *dX,
                        gradient_squares squares, REAL *u, REAL *spare, REAL *scratch)
{
    const int64_t r = part->rank, i = c - part->lo, at = i * part->stride;
    if (dX || part->A.trained) product(n, r, d_out, V, d_out, 1, part->B.w + at, r, 1, u, r, part->gamma[i], 0, scratch);
    if (dX) product(n, d_in, r, u, r, 1, part->A.w + at, d_in, 1, dX, d_in, 1, 1, scratch);
    if (part->B.trained) { /* B was needed for u, and A for dX: from here on both may move */
        const gradient found = block_of(part, &part->B, i, 0, d_out, r, r, spare);
        product(d_out, r, n, V, 1, d_out, part->kept + i * n * r, r, 1, found.g, found.ld, 1, 0, scratch);
        settle(part, &part->B, i, found, squares.B + c);
    }
    if (part->A.trained) {
        const gradient found = block_of(part, &part->A, i, 0, r, d_in, d_in, spare);
        product(r, d_in, n, u, 1, r, X, d_in, 1, found.g, found.ld, 1, 0, scratch);
        settle(part, &part->A, i, found, squares.A + c);
    }
}

/* The gradients of both factors from G = V'X (d_out, d_in), a block of ranks at a time: a block of either factor meets only the same of the other.
 * `packed` is room for G as a right factor. */
static void back_from_weight(const rsv_part *part, int64_t c, int64_t d_in, int64_t d_out, const REAL *G, gradient_squares squares, REAL *packed,
                             REAL *spare, REAL *scratch)
{
    const int64_t r = part->rank, i = c - part->lo, copy = i * part->stride;
    if (part->A.trained) pack(d_out, d_in, G, d_in, 1, packed);
    for (int64_t j = 0; j < r; j += RANKS) {
        const int64_t deep = lesser(r - j, RANKS);
        const REAL *A = part->A.w + copy + j * d_in, *B = part->B.w + copy + j;
        const gradient for_A = block_of(part, &part->A, i, j * d_in, deep, d_in, d_in, spare);
        const gradient for_B = block_of(part, &part->B, i, j, d_out, deep, r, spare + deep * d_in);
        if (part->A.trained) product_packed(deep, d_in, d_out, B, 1, r, packed, for_A.g, for_A.ld, 1, 0);
        if (part->B.trained) product(d_out, deep, d_in, G, d_in, 1, A, 1, d_in, for_B.g, for_B.ld, 1, 0, scratch);
        if (part->A.trained) settle(part, &part->A, i, for_A, squares.A + c);
        if (part->B.trained) settle(part, &part->B, i, for_B, squares.B + c);
    }
}

/* Gradients of all factors, or the step along them, and the signal dX (copies, n, d_in) of the input, added to it where `add`; NULL where it is
 * not wanted. V (copies, n, d_out); the squared norms of the gradients are added to A_squares and B_squares (copies,); the others as in
 * `rsv_linear`. */
void rsv_linear_back(int64_t copies, int64_t n, int64_t d_in, int64_t d_out, const REAL *W, const REAL *X, const REAL *V, REAL *dX, int add,
                     const rsv_part *parts, int64_t count, REAL *A_squares, REAL *B_squares, REAL *scratch)
{
    const int64_t size = packed_size(d_out, d_in);
    REAL *packed = scratch, *merged = scratch + size, *middle = merged + size;
    const gradient_squares squares = {A_squares, B_squares};
    if (dX) pack(d_out, d_in, W, d_in, 1, packed);
    for (int64_t c = 0; c < copies; c++, X += n * d_in, V += n * d_out) {
        const rsv_part *part = part_of(c, parts, count);
        REAL *mine = dX ? dX + c * n * d_in : 0;
        if (dX && part && part->merged)
            product(n, d_in, d_out, V, d_out, 1, part->kept + (c - part->lo) * d_out * d_in, d_in, 1, mine, d_in, 1, add, merged);
        else if (dX)
            product_packed(n, d_in, d_out, V, d_out, 1, packed, mine, d_in, 1, add);
        if (part && part->merged) {
            REAL *spare = middle + d_out * d_in, *rest = spare + lesser(part->rank, RANKS) * (d_in + d_out);
            product(d_out, d_in, n, V, 1, d_out, X, d_in, 1, middle, d_in, part->gamma[c - part->lo], 0, rest);
            back_from_weight(part, c, d_in, d_out, middle, squares, merged, spare, rest);
        } else if (part) {
            REAL *spare = middle + n * part->rank, *rest = spare + part->rank * greater(d_in, d_out);
            back_beside(part, c, n, d_in, d_out, X, V, mine, squares, middle, spare, rest);
        }
    }
}

/* The gradients of one adapter at B = 0 from the bare model's X and V: zero for A, and gamma V'(X A') for B, or by G = V'X where one is given. */
static void back_first(const rsv_part *part, int64_t c, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, const REAL *V, const REAL *G,
                       gradient_squares squares, REAL *h, REAL *spare, REAL *scratch)
{
    const int64_t r = part->rank, i = c - part->lo, copy = i * part->stride;
    for (int64_t j = 0; j < r; j += RANKS) {
        const int64_t deep = lesser(r - j, RANKS);
        const REAL *A = part->A.w + copy + j * d_in, gamma = part->gamma[i];
        const gradient for_A = block_of(part, &part->A, i, j * d_in, deep, d_in, d_in, spare);
        const gradient for_B = block_of(part, &part->B, i, j, d_out, deep, r, spare + deep * d_in);
        if (part->B.trained && G)
            product(d_out, deep, d_in, G, d_in, 1, A, 1, d_in, for_B.g, for_B.ld, gamma, 0, scratch);
        else if (part->B.trained) {
            product(n, deep, d_in, X, d_in, 1, A, 1, d_in, h, deep, gamma, 0, scratch);
            product(d_out, deep, n, V, 1, d_out, h, deep, 1, for_B.g, for_B.ld, 1, 0, scratch);
        }
        if (part->B.trained) settle(part, &part->B, i, for_B, squares.B + c);
        if (part->A.trained) {
            for (int64_t k = 0; k < deep * d_in; k++) for_A.g[k] = 0;
            settle(part, &part->A, i, for_A, squares.A + c);
        }
    }
}

/* `rsv_linear_back` at B = 0, where every copy sees the bare model on its own data: X (sources, n, d_in), V (sources, n, d_out), and source
 * (copies,) says which of them is whose. */
void rsv_linear_first(int64_t sources, int64_t n, int64_t d_in, int64_t d_out, const REAL *X, const REAL *V, const int64_t *source,
                      const rsv_part *parts, int64_t count, REAL *A_squares, REAL *B_squares, REAL *scratch)
{
    const int through_weight = d_in * d_out < n * (d_in + d_out);
    const gradient_squares squares = {A_squares, B_squares};
    REAL *G = scratch, *h = G + d_out * d_in;
    for (int64_t from = 0; from < sources; from++, X += n * d_in, V += n * d_out) {
        if (through_weight) product(d_out, d_in, n, V, 1, d_out, X, d_in, 1, G, d_in, 1, 0, h);
        for (const rsv_part *part = parts; part < parts + count; part++) {
            REAL *spare = h + n * lesser(part->rank, RANKS), *rest = spare + lesser(part->rank, RANKS) * (d_in + d_out);
            for (int64_t c = part->lo; c < part->hi; c++)
                if (source[c] == from) back_first(part, c, n, d_in, d_out, X, V, through_weight ? G : 0, squares, h, spare, rest);
        }
    }
}
#endif
