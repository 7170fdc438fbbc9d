/* What a transformer does to each row or number by itself: root-mean-square norms, the gated unit, the loss. */
#ifndef RSV_POINTWISE_H
#define RSV_POINTWISE_H
#include "vec.h"

static inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

static inline REAL square_root(REAL a)
{
#ifdef REAL_IS_DOUBLE
    return __builtin_sqrt(a);
#else
    return __builtin_sqrtf(a);
#endif
}

/* Sum of squares of a row of d. */
static inline REAL square_sum(int64_t d, const REAL *x)
{
    vec one = {0}, other = {0};
    int64_t j = 0;
    for (; j + 2 * LANES <= d; j += 2 * LANES) {
        const vec a = load(x + j), b = load(x + j + LANES);
        one += a * a;
        other += b * b;
    }
    if (j + LANES <= d) {
        const vec a = load(x + j);
        one += a * a;
        j += LANES;
    }
    REAL sum = vec_sum(one + other);
    for (; j < d; j++) sum += x[j] * x[j];
    return sum;
}

/* Rows of root mean square one, weighed. x, h (rows, d), w (d,); inverse (rows,) = 1 / sqrt(mean(x^2) + eps). h may be x's own memory. */
void rsv_norm(int64_t rows, int64_t d, REAL eps, const REAL *x, const REAL *w, REAL *h, REAL *inverse)
{
    for (int64_t i = 0; i < rows; i++, x += d, h += d) {
        const REAL scale = 1 / square_root(square_sum(d, x) / (REAL)d + eps);
        inverse[i] = scale;
        int64_t j = 0;
        for (; j + LANES <= d; j += LANES) store(h + j, load(x + j) * scale * load(w + j));
        for (; j < d; j++) h[j] = x[j] * scale * w[j];
    }
}

/* Sum of w * dh * x over a row of d. */
static inline REAL weighed_sum(int64_t d, const REAL *w, const REAL *dh, const REAL *x)
{
    vec one = {0}, other = {0};
    int64_t j = 0;
    for (; j + 2 * LANES <= d; j += 2 * LANES) {
        one += load(w + j) * load(dh + j) * load(x + j);
        other += load(w + j + LANES) * load(dh + j + LANES) * load(x + j + LANES);
    }
    if (j + LANES <= d) {
        one += load(w + j) * load(dh + j) * load(x + j);
        j += LANES;
    }
    REAL sum = vec_sum(one + other);
    for (; j < d; j++) sum += w[j] * dh[j] * x[j];
    return sum;
}

/* Signal before `rsv_norm`: dx = inverse * (w * dh - x * inverse * mean(w * dh * x * inverse)), added where `add`. dx may be dh's own memory. */
void rsv_norm_back(int64_t rows, int64_t d, const REAL *dh, const REAL *x, const REAL *inverse, const REAL *w, REAL *dx, int add)
{
    for (int64_t i = 0; i < rows; i++, dh += d, x += d, dx += d) {
        const REAL scale = inverse[i], along = weighed_sum(d, w, dh, x) * scale * scale * scale / (REAL)d;
        int64_t j = 0;
        for (; j + LANES <= d; j += LANES) {
            vec found = scale * load(w + j) * load(dh + j) - along * load(x + j);
            if (add) found += load(dx + j);
            store(dx + j, found);
        }
        for (; j < d; j++) {
            const REAL found = scale * w[j] * dh[j] - along * x[j];
            dx[j] = add ? dx[j] + found : found;
        }
    }
}

static inline vec silu(vec g) { return g / (1 + vec_exp(-g)); }

/* out = silu(g) * u, `count` numbers each. */
void rsv_gate(int64_t count, const REAL *g, const REAL *u, REAL *out)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(out + i, silu(load(g + i)) * load(u + i));
    if (i < count) store_part(out + i, silu(load_part(g + i, count - i, 0)) * load_part(u + i, count - i, 0), count - i);
}

typedef struct {
    vec dg, du;
} gate_signal;

static inline gate_signal gate_back(vec da, vec g, vec u)
{
    const vec sigmoid = 1 / (1 + vec_exp(-g)), value = g * sigmoid;
    return (gate_signal){da * u * (sigmoid + value * (1 - sigmoid)), da * value};
}

/* Signals before `rsv_gate`: dg = da * u * silu'(g), du = da * silu(g). dg may be da's own memory. */
void rsv_gate_back(int64_t count, const REAL *da, const REAL *g, const REAL *u, REAL *dg, REAL *du)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const gate_signal found = gate_back(load(da + i), load(g + i), load(u + i));
        store(dg + i, found.dg);
        store(du + i, found.du);
    }
    if (i < count) {
        const int64_t left = count - i;
        const gate_signal found = gate_back(load_part(da + i, left, 0), load_part(g + i, left, 0), load_part(u + i, left, 0));
        store_part(dg + i, found.dg, left);
        store_part(du + i, found.du, left);
    }
}

static inline REAL row_greatest(int64_t n, const REAL *x)
{
    if (n < LANES) return vec_greatest(load_part(x, n, -REAL_INFINITY));
    vec one = load(x), other = load(x + n - LANES); /* the last vector overlaps */
    for (int64_t j = LANES; j + LANES < n; j += 2 * LANES) {
        one = vec_max(load(x + j), one);
        other = vec_max(load(x + lesser(j + LANES, n - LANES)), other);
    }
    return vec_greatest(vec_max(one, other));
}

/* exp(x - top) in place; returns the sum. */
static inline REAL row_exp(int64_t n, REAL *x, REAL top)
{
    vec sum = {0};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        const vec e = vec_exp(load(x + j) - top);
        store(x + j, e);
        sum += e;
    }
    if (j < n) {
        const vec e = vec_exp(load_part(x + j, n - j, -REAL_INFINITY) - top);
        store_part(x + j, e, n - j);
        for (int64_t i = 0; i < n - j; i++) sum[i] += e[i];
    }
    return vec_sum(sum);
}

static inline void row_scale(int64_t n, REAL *x, REAL scale)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) store(x + j, load(x + j) * scale);
    for (; j < n; j++) x[j] *= scale;
}

/* A row of logits turned into share * (softmax - one at `next`); returns the loss. */
static inline double row_loss(int64_t n, REAL *x, int64_t next, REAL share)
{
    const REAL top = row_greatest(n, x), aim = x[next] - top, sum = row_exp(n, x, top);
    row_scale(n, x, share / sum);
    x[next] -= share;
    return __builtin_log((double)sum) - (double)aim;
}

/* Next-token loss of each copy and its gradient. logits (copies * sequences, T, vocabulary) become the gradient of the sum over copies of each
 * copy's mean loss, the last position of a sequence zero; tokens (copies * sequences, T); losses (copies,). */
void rsv_cross_entropy(int64_t copies, int64_t sequences, int64_t T, int64_t vocabulary, REAL *logits, const int64_t *tokens, REAL *losses)
{
    const double rows = (double)(sequences * (T - 1));
    for (int64_t c = 0; c < copies; c++) {
        double sum = 0;
        for (int64_t s = 0; s < sequences; s++, tokens += T) {
            for (int64_t t = 0; t + 1 < T; t++, logits += vocabulary) sum += row_loss(vocabulary, logits, tokens[t + 1], (REAL)(1 / rows));
            for (int64_t j = 0; j < vocabulary; j++) logits[j] = 0; /* nothing follows the last token */
            logits += vocabulary;
        }
        losses[c] = (REAL)(sum / rows);
    }
}
#endif
