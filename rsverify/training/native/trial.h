/* What a library that was just built is asked in a process of its own, before any other loads it: to run its kernels once, and to get a product right. */
#ifndef RSV_TRIAL_H
#define RSV_TRIAL_H /* behind all of the others */

enum { TRIAL_ROWS = 37, TRIAL_WIDTH = 40, TRIAL_RANK = 5, TRIAL_SIZE = TRIAL_WIDTH * TRIAL_WIDTH };

static void trial_fill(int64_t count, REAL *to)
{
    for (int64_t i = 0; i < count; i++) to[i] = (REAL)(i * 7919 % 127 - 63) / 64;
}

/* Small whole numbers over a power of two: sums of their products are exact in any order. */
static int trial_product(const REAL *A, const REAL *B, REAL *C, REAL *scratch)
{
    const int64_t m = TRIAL_ROWS, n = TRIAL_WIDTH - 1, k = TRIAL_WIDTH;
    int wrong = 0;
    for (int layout = 0; layout < 4; layout++) {
        const int64_t ars = layout & 1 ? 1 : k, acs = layout & 1 ? m : 1, brs = layout & 2 ? 1 : n, bcs = layout & 2 ? k : 1;
        rsv_product(m, n, k, A, ars, acs, B, brs, bcs, C, n, 1, 0, scratch);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                REAL sum = 0;
                for (int64_t l = 0; l < k; l++) sum += A[i * ars + l * acs] * B[l * brs + j * bcs];
                wrong |= !(C[i * n + j] == sum);
            }
    }
    return wrong;
}

/* 0 where all went well. Needs no memory but its own; not for two threads at once. */
int rsv_trial(void)
{
    static REAL W[TRIAL_SIZE], X[TRIAL_SIZE], V[TRIAL_SIZE], Y[TRIAL_SIZE], Z[TRIAL_SIZE], kept[TRIAL_SIZE], factors[6 * TRIAL_SIZE];
    static REAL scratch[16 * TRIAL_SIZE], P[8 * TRIAL_SIZE], cosine[TRIAL_SIZE], sine[TRIAL_SIZE];
    const int64_t n = TRIAL_ROWS, d = TRIAL_WIDTH, r = TRIAL_RANK, heads = 2, width = 20;
    REAL *const buffers[] = {W, X, V, cosine, sine};
    for (int i = 0; i < 5; i++) trial_fill(TRIAL_SIZE, buffers[i]);
    int wrong = trial_product(X, W, Y, scratch);

    const rsv_uniform_draw draw = {{1, 2}, 2 * r * d, 0.5, factors};
    rsv_uniform(1, &draw);
    const rsv_adam adam = {(REAL)0.1, (REAL)0.001, (REAL)0.999, (REAL)1e-8, 0, (REAL)0.01, (REAL)0.1, (REAL)0.03};
    const REAL gamma = 2, lr = (REAL)1e-3;
    REAL squares[3] = {0, 0, 0}, losses[1];
    for (int merged = 0; merged < 2; merged++) {
        REAL *m = factors + TRIAL_SIZE, *s = m + TRIAL_SIZE;
        const rsv_factor A = {1, factors, 0, m, s, &lr}, B = {1, factors + r * d, 0, m + r * d, s + r * d, &lr};
        const rsv_part part = {0, 1, r, merged, 2 * r * d, &gamma, kept, &adam, A, B};
        const int64_t source = 0;
        rsv_linear(1, n, d, d, W, X, V, Y, &part, 1, squares, scratch);
        rsv_linear_back(1, n, d, d, W, X, V, Z, 0, &part, 1, squares + 1, squares + 2, scratch);
        rsv_linear_first(1, n, d, d, X, V, &source, &part, 1, squares + 1, squares + 2, scratch);
    }
    rsv_norm(n, d, (REAL)1e-6, X, W, Y, Z);
    rsv_norm_back(n, d, V, X, Z, W, Y, 1);
    rsv_attention(1, n, heads, heads, width, cosine, sine, X, V, W, Y, Z, P, kept, scratch);
    rsv_attention_back(1, n, heads, heads, width, cosine, sine, V, Y, Z, W, P, factors, factors + TRIAL_SIZE, factors + 2 * TRIAL_SIZE, scratch);
    rsv_gate(n * d, X, V, Y);
    rsv_gate_back(n * d, V, X, Y, Z, kept);
    int64_t tokens[TRIAL_ROWS];
    for (int64_t t = 0; t < n; t++) tokens[t] = t;
    rsv_cross_entropy(1, 1, n, d, X, tokens, losses);
    for (int i = 0; i < 3; i++) wrong |= !(squares[i] > 0 && squares[i] < REAL_INFINITY);
    return wrong | !(losses[0] > 0 && losses[0] < REAL_INFINITY);
}
#endif
