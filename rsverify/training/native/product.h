/* Products of matrices that fit the cache of one core.
 *
 * The right factor is packed into panels of one or two vectors width, so that its rows are read in a row whatever its strides are;
 * the left factor is read entry by entry, so that its strides do not matter. Sums run over k in order, the same on every run.
 */
#ifndef RSV_PRODUCT_H
#define RSV_PRODUCT_H
#include "vec.h"

/* Rows and vectors of a block: its sums hide the latency of two multiply-adds a cycle, and leave registers for a row of the right factor, a
 * number of the left one, and their product where the processor does not add it at once. */
#define WIDE 2
#if REGISTERS >= 32
#define ROWS 8
#else
#define ROWS 6
#endif

#define INLINE static inline __attribute__((always_inline))

/* REALs that a packed right factor of shape (k, n) takes. */
static inline int64_t packed_size(int64_t k, int64_t n) { return k * ((n + LANES - 1) / LANES) * LANES; }

/* Places of two vectors in turn: their first halves, and their second halves. */
#define ZIP_2(from, n) from, from + n
#define ZIP_4(from, n) ZIP_2(from, n), ZIP_2(from + 1, n)
#define ZIP_8(from, n) ZIP_4(from, n), ZIP_4(from + 2, n)
#define ZIP_16(from, n) ZIP_8(from, n), ZIP_8(from + 4, n)
#if LANE_COUNT == 16
#define ZIP(from) ZIP_16(from, 16)
enum { ROUNDS = 4 };
#elif LANE_COUNT == 8
#define ZIP(from) ZIP_8(from, 8)
enum { ROUNDS = 3 };
#elif LANE_COUNT == 4
#define ZIP(from) ZIP_4(from, 4)
enum { ROUNDS = 2 };
#else
#define ZIP(from) ZIP_2(from, 2)
enum { ROUNDS = 1 };
#endif
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, ZIP(0))
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, ZIP(LANE_COUNT / 2))
enum { SQUARE = LANE_COUNT };

/* Transpose a square of one vector's width, its rows from `there` on zero: log2(width) rounds of perfect shuffles. Rows of from and to lie
 * `from_ld` and `to_ld` apart. */
static inline void transpose_square(int64_t there, const REAL *from, int64_t from_ld, REAL *to, int64_t to_ld)
{
    vec one[SQUARE], other[SQUARE];
UNROLL
    for (int i = 0; i < SQUARE; i++) one[i] = i < there ? load(from + i * from_ld) : all(0);
UNROLL
    for (int round = 0; round < ROUNDS; round++) {
UNROLL
        for (int i = 0; i < SQUARE / 2; i++) {
            other[2 * i] = ZIP_LOW(one[i], one[i + SQUARE / 2]);
            other[2 * i + 1] = ZIP_HIGH(one[i], one[i + SQUARE / 2]);
        }
UNROLL
        for (int i = 0; i < SQUARE; i++) one[i] = other[i];
    }
UNROLL
    for (int i = 0; i < SQUARE; i++) store(to + i * to_ld, one[i]);
}

/* Columns [0, width) of B, k of them deep, as rows of `padded` REALs, the rest zero. */
static inline void pack_panel(int64_t k, int64_t width, int64_t padded, const REAL *B, int64_t brs, int64_t bcs, REAL *to)
{
    if (bcs == 1) {
        const int64_t whole = width / LANES * LANES;
        for (int64_t l = 0; l < k; l++, B += brs, to += padded) {
            for (int64_t j = 0; j < whole; j += LANES) store(to + j, load(B + j));
            if (whole < padded) {
                store(to + whole, all(0));
                copy_part(B + whole, width - whole, to + whole);
            }
        }
        return;
    }
    const int64_t deep = brs == 1 ? k / SQUARE * SQUARE : 0; /* a transposed matrix: squares through registers */
    for (int64_t j = 0; j < padded; j += SQUARE)
        for (int64_t l = 0; l < deep; l += SQUARE) transpose_square(width - j, B + j * bcs + l, bcs, to + l * padded + j, padded);
    for (int64_t l = deep; l < k; l++) {
        for (int64_t j = 0; j < width; j++) to[l * padded + j] = B[l * brs + j * bcs];
        for (int64_t j = width; j < padded; j++) to[l * padded + j] = 0;
    }
}

/* Pack B (k, n), element (l, j) at B[l * brs + j * bcs], for `product_packed`. */
static void pack(int64_t k, int64_t n, const REAL *B, int64_t brs, int64_t bcs, REAL *to)
{
    for (int64_t j = 0; j < n;) {
        int64_t left = n - j, padded = (left > LANES ? WIDE : 1) * LANES, width = left < padded ? left : padded;
        pack_panel(k, width, padded, B + j * bcs, brs, bcs, to);
        to += k * padded;
        j += width;
    }
}

/* A block of `rows` rows and `vecs` vectors of C, of which `width` columns exist. */
INLINE void block(const int rows, const int vecs, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *panel, REAL *C, int64_t ldc,
                  int64_t width, REAL alpha, int beta)
{
    vec sum[ROWS][WIDE];
UNROLL
    for (int i = 0; i < rows; i++)
UNROLL
        for (int j = 0; j < vecs; j++) sum[i][j] = (vec){0};
    for (int64_t l = 0; l < k; l++) {
        vec b[WIDE];
UNROLL
        for (int j = 0; j < vecs; j++) b[j] = load(panel + (l * vecs + j) * LANES);
UNROLL
        for (int i = 0; i < rows; i++) {
            const REAL a = A[i * ars + l * acs];
UNROLL
            for (int j = 0; j < vecs; j++) sum[i][j] += a * b[j];
        }
    }
UNROLL
    for (int i = 0; i < rows; i++)
UNROLL
        for (int j = 0; j < vecs; j++) {
            REAL *to = C + i * ldc + j * LANES;
            vec result = alpha * sum[i][j];
            const int64_t there = width - j * LANES;
            if (there >= LANES) {
                if (beta) result += load(to);
                store(to, result);
            } else {
                if (beta) result += load_part(to, there, 0);
                store_part(to, result, there);
            }
        }
}

/* All rows of one panel. */
INLINE void panel_product(const int vecs, int64_t m, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *panel, REAL *C, int64_t ldc,
                          int64_t width, REAL alpha, int beta)
{
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS) block(ROWS, vecs, k, A + i * ars, ars, acs, panel, C + i * ldc, ldc, width, alpha, beta);
    switch (m - i) {
#define REST(rows) case rows: block(rows, vecs, k, A + i * ars, ars, acs, panel, C + i * ldc, ldc, width, alpha, beta); break
        REST(1); REST(2); REST(3); REST(4); REST(5);
#if ROWS > 6
        REST(6); REST(7);
#endif
#undef REST
    }
}

#if VECTOR_BYTES > SHORT_BYTES
/* `block` of one vector of which the first half alone is there: as many operations a cycle, half as many of them. */
INLINE void short_block(const int rows, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *panel, REAL *C, int64_t ldc, int64_t width,
                        REAL alpha, int beta)
{
    short_vec sum[ROWS];
UNROLL
    for (int i = 0; i < rows; i++) sum[i] = (short_vec){0};
    for (int64_t l = 0; l < k; l++) {
        const short_vec b = *(const short_vec *)(panel + l * LANES);
UNROLL
        for (int i = 0; i < rows; i++) sum[i] += A[i * ars + l * acs] * b;
    }
UNROLL
    for (int i = 0; i < rows; i++) {
        REAL *to = C + i * ldc, lane[SHORT_LANES] __attribute__((aligned(SHORT_BYTES)));
        short_vec *into = (short_vec *)(width < SHORT_LANES ? lane : to);
        if (beta && width < SHORT_LANES) {
            *into = (short_vec){0};
            copy_part(to, width, lane);
        }
        *into = beta ? *into + alpha * sum[i] : alpha * sum[i];
        if (width < SHORT_LANES) copy_part(lane, width, to);
    }
}

static __attribute__((noinline)) void half_vector(int64_t m, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *panel, REAL *C, int64_t ldc,
                                                  int64_t width, REAL alpha, int beta)
{
    int64_t i = 0;
    for (; i + ROWS <= m; i += ROWS) short_block(ROWS, k, A + i * ars, ars, acs, panel, C + i * ldc, ldc, width, alpha, beta);
    for (; i < m; i++) short_block(1, k, A + i * ars, ars, acs, panel, C + i * ldc, ldc, width, alpha, beta);
}
#endif

static __attribute__((noinline)) void one_vector(int64_t m, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *panel, REAL *C, int64_t ldc,
                                                 int64_t width, REAL alpha, int beta)
{
    panel_product(1, m, k, A, ars, acs, panel, C, ldc, width, alpha, beta);
}

static __attribute__((noinline)) void wide_panel(int64_t m, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *panel, REAL *C, int64_t ldc,
                                                 int64_t width, REAL alpha, int beta)
{
    panel_product(WIDE, m, k, A, ars, acs, panel, C, ldc, width, alpha, beta);
}

/* C (m, n) = alpha A B, added to C where beta, with rows [from, from + deep) of a packed B (k, n). */
static void panels(int64_t m, int64_t n, int64_t k, int64_t from, int64_t deep, const REAL *A, int64_t ars, int64_t acs, const REAL *packed, REAL *C,
                   int64_t ldc, REAL alpha, int beta)
{
    for (int64_t j = 0; j < n;) {
        int64_t left = n - j, vecs = left > LANES ? WIDE : 1, width = left < vecs * LANES ? left : vecs * LANES;
        const REAL *panel = packed + from * vecs * LANES;
#if VECTOR_BYTES > SHORT_BYTES
        if (width <= SHORT_LANES)
            half_vector(m, deep, A, ars, acs, panel, C + j, ldc, width, alpha, beta);
        else
#endif
        if (vecs == 1)
            one_vector(m, deep, A, ars, acs, panel, C + j, ldc, width, alpha, beta);
        else
            wide_panel(m, deep, A, ars, acs, panel, C + j, ldc, width, alpha, beta);
        packed += k * vecs * LANES;
        j += width;
    }
}

/* The same for all of B and a left factor that is the transpose of a matrix with long rows. Read entry by entry it would come a line of the
 * cache for each, from lines that push one another out: a block of it is copied into a row first. */
static void product_far(int64_t m, int64_t n, int64_t k, const REAL *A, int64_t acs, const REAL *packed, REAL *C, int64_t ldc, REAL alpha, int beta)
{
    enum { DEEP = 256 };
    REAL tile[ROWS * DEEP];
    for (int64_t from = 0; from < k; from += DEEP) {
        const int64_t deep = k - from < DEEP ? k - from : DEEP;
        for (int64_t i = 0; i < m; i += ROWS) {
            const int64_t rows = m - i < ROWS ? m - i : ROWS;
            const REAL *at = A + from * acs + i;
            for (int64_t l = 0; l < deep; l++, at += acs) {
                if (rows == ROWS)
                    __builtin_memcpy(tile + l * ROWS, at, ROWS * sizeof(REAL));
                else
                    for (int64_t q = 0; q < rows; q++) tile[l * rows + q] = at[q];
            }
            panels(rows, n, k, from, deep, tile, 1, rows, packed, C + i * ldc, ldc, alpha, beta || from > 0);
        }
    }
}

enum { FAR_BYTES = 1024 };

/* C (m, n) = alpha A B, added to C where beta; B (k, n) packed. Element (i, l) of A at A[i * ars + l * acs], rows of C `ldc` apart. */
static void product_packed(int64_t m, int64_t n, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *packed, REAL *C, int64_t ldc,
                           REAL alpha, int beta)
{
    if (ars == 1 && acs * (int64_t)sizeof(REAL) >= FAR_BYTES && n > WIDE * LANES)
        product_far(m, n, k, A, acs, packed, C, ldc, alpha, beta);
    else
        panels(m, n, k, 0, k, A, ars, acs, packed, C, ldc, alpha, beta);
}

/* C (m, n) = alpha A B, added to C where beta. Element (l, j) of B at B[l * brs + j * bcs]; scratch of `packed_size(k, n)` REALs. */
static void product(int64_t m, int64_t n, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *B, int64_t brs, int64_t bcs, REAL *C,
                    int64_t ldc, REAL alpha, int beta, REAL *scratch)
{
    pack(k, n, B, brs, bcs, scratch);
    product_packed(m, n, k, A, ars, acs, scratch, C, ldc, alpha, beta);
}
#endif
