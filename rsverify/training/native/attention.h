/* Causal attention with grouped queries on rotated heads, forward and backward, head by head so that a head stays in the cache.
 *
 * Queries go through in panels of two vectors. Scores stand with keys in rows and the queries of a panel in the lanes, so that softmax
 * needs no sum across lanes, and a panel sees the keys up to its own end only. P: for each sequence, in it for each head, in it for each
 * panel of queries [lo, hi): (hi keys, lanes), lanes one vector if hi - lo <= LANES, else two; key j, query lo + i at [j, i]; zero where
 * the key comes after the query, without meaning in lanes from hi - lo on.
 */
#ifndef RSV_ATTENTION_H
#define RSV_ATTENTION_H
#include "pointwise.h"
#include "product.h"
#include "vec.h"

#define PANEL (2 * LANES)

static inline int64_t up_to_vector(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* REALs that P takes for one head. */
static inline int64_t head_kept(int64_t T)
{
    int64_t sum = 0;
    for (int64_t lo = 0; lo < T; lo += PANEL) sum += lesser(lo + PANEL, T) * lesser(up_to_vector(T - lo), PANEL);
    return sum;
}

/* REALs that P takes. */
int64_t rsv_attention_kept(int64_t sequences, int64_t T, int64_t heads) { return sequences * heads * head_kept(T); }

/* Half j of a pair of halves turned by their angles; `sign` -1 turns back. Type `short_vec` or REAL. */
#define TURN(type, sin_of_first, sin_of_second, sign)                                         \
    do {                                                                                      \
        const type a = *(const type *)(z + j), b = *(const type *)(z + j + half);             \
        const type c = *(const type *)(cos + j), d = *(const type *)(cos + j + half);         \
        const type e = *(const type *)(sin_of_first), f = *(const type *)(sin_of_second);     \
        *(type *)(to + j) = (a * c - sign * b * e) * scale;                                   \
        *(type *)(to + j + half) = (b * d + sign * a * f) * scale;                            \
    } while (0)

/* to = z turned by the angles of its row, times `scale`. cos, sin (T, width); rows of z and `to` z_ld and to_ld apart; they share no memory. */
static void rotate(int64_t T, int64_t width, const REAL *cos, const REAL *sin, REAL scale, const REAL *z, int64_t z_ld, REAL *to, int64_t to_ld)
{
    const int64_t half = width / 2;
    for (int64_t t = 0; t < T; t++, z += z_ld, cos += width, sin += width, to += to_ld) {
        int64_t j = 0;
        for (; j + SHORT_LANES <= half; j += SHORT_LANES) TURN(short_vec, sin + j, sin + j + half, 1);
        for (; j < half; j++) TURN(REAL, sin + j, sin + j + half, 1);
    }
}

/* The transposed map. */
static void rotate_back(int64_t T, int64_t width, const REAL *cos, const REAL *sin, REAL scale, const REAL *z, int64_t z_ld, REAL *to, int64_t to_ld)
{
    const int64_t half = width / 2;
    for (int64_t t = 0; t < T; t++, z += z_ld, cos += width, sin += width, to += to_ld) {
        int64_t j = 0;
        for (; j + SHORT_LANES <= half; j += SHORT_LANES) TURN(short_vec, sin + j + half, sin + j, -1);
        for (; j < half; j++) TURN(REAL, sin + j + half, sin + j, -1);
    }
}
#undef TURN

static void copy_rows(int64_t rows, int64_t width, const REAL *from, int64_t from_ld, REAL *to, int64_t to_ld)
{
    for (int64_t i = 0; i < rows; i++, from += from_ld, to += to_ld) {
        int64_t j = 0;
        for (; j + SHORT_LANES <= width; j += SHORT_LANES) *(short_vec *)(to + j) = *(const short_vec *)(from + j);
        for (; j < width; j++) to[j] = from[j];
    }
}

/* C (m, n) = A B with the first k of the `deep` rows of a packed B. */
static void product_first(int64_t m, int64_t n, int64_t k, int64_t deep, const REAL *A, int64_t ars, int64_t acs, const REAL *packed, REAL *C,
                          int64_t ldc)
{
    for (int64_t j = 0; j < n; j += WIDE * LANES) {
        const int64_t left = lesser(n - j, WIDE * LANES);
        product_packed(m, left, k, A, ars, acs, packed, C + j, ldc, 1, 0);
        packed += deep * up_to_vector(left);
    }
}

/* Softmax over the keys of a panel of `vecs` vectors of queries, the first of which is query `lo`. S (keys, vecs * LANES), in place. */
static inline __attribute__((always_inline)) void softmax(const int vecs, int64_t keys, int64_t lo, REAL *S)
{
    ints lane[2];
    for (int i = 0; i < 2 * LANES; i++) lane[i / LANES][i % LANES] = i;
    vec top[4], sum[2] = {{0}, {0}};
    for (int i = 0; i < 4; i++) top[i] = all(-REAL_INFINITY);
    for (int64_t j = 0; j < lo; j += 2) /* two rows of keys at a time, as a maximum waits for the one before; lo is even */
UNROLL
        for (int i = 0; i < 2 * vecs; i++) top[i] = vec_max(load(S + (j * vecs + i) * LANES), top[i]);
UNROLL
    for (int i = 0; i < vecs; i++) top[i] = vec_max(top[i], top[i + vecs]);
    for (int64_t j = lo; j < keys; j++)
UNROLL
        for (int i = 0; i < vecs; i++) {
            REAL *at = S + (j * vecs + i) * LANES;
            const vec seen = pick((ints)(lane[i] < (whole)(j - lo)), all(-REAL_INFINITY), load(at));
            store(at, seen);
            top[i] = vec_max(seen, top[i]);
        }
    for (int64_t j = 0; j < keys; j++)
UNROLL
        for (int i = 0; i < vecs; i++) {
            REAL *at = S + (j * vecs + i) * LANES;
            const vec e = vec_exp(load(at) - top[i]);
            store(at, e);
            sum[i] += e;
        }
UNROLL
    for (int i = 0; i < vecs; i++) sum[i] = 1 / sum[i];
    for (int64_t j = 0; j < keys; j++)
UNROLL
        for (int i = 0; i < vecs; i++) {
            REAL *at = S + (j * vecs + i) * LANES;
            store(at, load(at) * sum[i]);
        }
}

static void softmax_panel(int64_t keys, int64_t lo, int64_t lanes, REAL *S)
{
    if (lanes == LANES)
        softmax(1, keys, lo, S);
    else
        softmax(2, keys, lo, S);
}

/* Signal before softmax from dP behind it, in place: P * (dP - sum over keys of P * dP). */
static inline __attribute__((always_inline)) void softmax_back(const int vecs, int64_t keys, const REAL *P, REAL *dP)
{
    vec along[2] = {{0}, {0}};
    for (int64_t j = 0; j < keys; j++)
UNROLL
        for (int i = 0; i < vecs; i++) along[i] += load(P + (j * vecs + i) * LANES) * load(dP + (j * vecs + i) * LANES);
    for (int64_t j = 0; j < keys; j++)
UNROLL
        for (int i = 0; i < vecs; i++) {
            REAL *at = dP + (j * vecs + i) * LANES;
            store(at, load(P + (j * vecs + i) * LANES) * (load(at) - along[i]));
        }
}

static void softmax_back_panel(int64_t keys, int64_t lanes, const REAL *P, REAL *dP)
{
    if (lanes == LANES)
        softmax_back(1, keys, P, dP);
    else
        softmax_back(2, keys, P, dP);
}

/* REALs of scratch of `rsv_attention`: v of a head, and a panel of queries, packed. */
int64_t rsv_attention_scratch(int64_t T, int64_t width) { return packed_size(T, width) + packed_size(width, PANEL); }

/* One head. q, kr (T, width) rotated, out rows `ld` apart; returns the end of its P. */
static REAL *head_forward(int64_t T, int64_t width, const REAL *q, const REAL *kr, const REAL *packed_v, REAL *P, REAL *out, int64_t ld,
                          REAL *packed_q)
{
    for (int64_t lo = 0; lo < T; lo += PANEL) {
        const int64_t hi = lesser(lo + PANEL, T), lanes = up_to_vector(hi - lo);
        pack(width, hi - lo, q + lo * width, 1, width, packed_q);
        product_packed(hi, lanes, width, kr, width, 1, packed_q, P, lanes, 1, 0);
        softmax_panel(hi, lo, lanes, P);
        product_first(hi - lo, width, hi, T, P, 1, lanes, packed_v, out + lo * ld, ld);
        P += hi * lanes;
    }
    return P;
}

/* Causal attention. q, out (sequences * T, heads * width), k, v (sequences * T, kv * width), cos, sin (T, width), width even.
 * For the way back: qr (sequences, heads, T, width), q rotated and times width**-0.5; kr (sequences, kv, T, width), k rotated; P as above. */
void rsv_attention(int64_t sequences, int64_t T, int64_t heads, int64_t kv, int64_t width, const REAL *cos, const REAL *sin, const REAL *q,
                   const REAL *k, const REAL *v, REAL *qr, REAL *kr, REAL *P, REAL *out, REAL *scratch)
{
    const int64_t group = heads / kv, ld = heads * width, kv_ld = kv * width, size = T * width;
    const REAL scale = 1 / square_root((REAL)width);
    REAL *packed_v = scratch, *packed_q = scratch + packed_size(T, width);
    for (int64_t s = 0; s < sequences; s++, q += T * ld, out += T * ld, k += T * kv_ld, v += T * kv_ld)
        for (int64_t h = 0; h < kv; h++, kr += size) {
            rotate(T, width, cos, sin, 1, k + h * width, kv_ld, kr, width);
            pack(T, width, v + h * width, kv_ld, 1, packed_v);
            for (int64_t g = h * group; g < (h + 1) * group; g++, qr += size) {
                rotate(T, width, cos, sin, scale, q + g * width, ld, qr, width);
                P = head_forward(T, width, qr, kr, packed_v, P, out + g * width, ld, packed_q);
            }
        }
}

/* REALs of scratch of `rsv_attention_back`. */
int64_t rsv_attention_back_scratch(int64_t T, int64_t width)
{
    return packed_size(T, width)          /* keys of a head, packed */
           + 3 * up_to_vector(T * width)  /* dq, dk, dv of a head */
           + T * PANEL                    /* dP of a panel */
           + packed_size(width, PANEL)    /* the signal of a panel's queries, packed across */
           + packed_size(PANEL, width);   /* queries of a panel or their signal, packed along */
}

typedef struct {
    REAL *packed_k, *dq, *dk, *dv, *dP, *across, *along;
} head_scratch;

/* One head: dq set, dk and dv added to. dout rows `ld`, v rows `kv_ld` apart, the others (T, width); returns the end of its P. */
static const REAL *head_backward(int64_t T, int64_t width, const REAL *dout, int64_t ld, const REAL *qr, const REAL *v, int64_t kv_ld,
                                 const REAL *P, head_scratch at)
{
    for (int64_t lo = 0; lo < T; lo += PANEL) {
        const int64_t hi = lesser(lo + PANEL, T), count = hi - lo, lanes = up_to_vector(count);
        pack(width, count, dout + lo * ld, 1, ld, at.across);
        product_packed(hi, lanes, width, v, kv_ld, 1, at.across, at.dP, lanes, 1, 0);
        softmax_back_panel(hi, lanes, P, at.dP);
        product_first(count, width, hi, T, at.dP, 1, lanes, at.packed_k, at.dq + lo * width, width);
        pack(count, width, qr + lo * width, width, 1, at.along);
        product_packed(hi, width, count, at.dP, lanes, 1, at.along, at.dk, width, 1, 1);
        pack(count, width, dout + lo * ld, ld, 1, at.along);
        product_packed(hi, width, count, P, lanes, 1, at.along, at.dv, width, 1, 1);
        P += hi * lanes;
    }
    return P;
}

/* Signals of q, k and v from that of the result. dout, dq (sequences * T, heads * width), v, dk, dv (sequences * T, kv * width); qr, kr, P
 * as `rsv_attention` left them. */
void rsv_attention_back(int64_t sequences, int64_t T, int64_t heads, int64_t kv, int64_t width, const REAL *cos, const REAL *sin,
                        const REAL *dout, const REAL *qr, const REAL *kr, const REAL *v, const REAL *P, REAL *dq, REAL *dk, REAL *dv,
                        REAL *scratch)
{
    const int64_t group = heads / kv, ld = heads * width, kv_ld = kv * width, size = T * width, padded = up_to_vector(size);
    const REAL scale = 1 / square_root((REAL)width);
    head_scratch at = {.packed_k = scratch};
    at.dq = at.packed_k + packed_size(T, width);
    at.dk = at.dq + padded;
    at.dv = at.dk + padded;
    at.dP = at.dv + padded;
    at.across = at.dP + T * PANEL;
    at.along = at.across + packed_size(width, PANEL);
    for (int64_t s = 0; s < sequences; s++, dout += T * ld, dq += T * ld, v += T * kv_ld, dk += T * kv_ld, dv += T * kv_ld)
        for (int64_t h = 0; h < kv; h++, kr += size) {
            pack(T, width, kr, width, 1, at.packed_k);
            for (int64_t i = 0; i < 2 * padded; i++) at.dk[i] = 0; /* dv lies behind dk */
            for (int64_t g = h * group; g < (h + 1) * group; g++, qr += size) {
                P = head_backward(T, width, dout + g * width, ld, qr, v + h * width, kv_ld, P, at);
                rotate_back(T, width, cos, sin, scale, at.dq, width, dq + g * width, ld);
            }
            rotate_back(T, width, cos, sin, 1, at.dk, width, dk + h * width, kv_ld);
            copy_rows(T, width, at.dv, width, dv + h * width, kv_ld);
        }
}
#endif
