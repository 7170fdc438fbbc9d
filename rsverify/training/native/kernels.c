/* One library for one REAL: cc -DREAL=float or -DREAL=double. See compiler.py for the flags and why they are these. */
#include "attention.h"
#include "compiled_for.h"
#include "linear.h"
#include "philox.h"
#include "pointwise.h"

/* Numbers in a vector: what a width is rounded up to. */
const int64_t rsv_lanes = LANES;

/* Pieces of the kernels by themselves, for the trial and the tests. Not static: the compiler would make copies of them for each call's sizes. */
int64_t rsv_packed_size(int64_t k, int64_t n) { return packed_size(k, n); }

void rsv_product(int64_t m, int64_t n, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *B, int64_t brs, int64_t bcs, REAL *C,
                 int64_t ldc, REAL alpha, int beta, REAL *scratch)
{
    product(m, n, k, A, ars, acs, B, brs, bcs, C, ldc, alpha, beta, scratch);
}

/* y = exp(x), `count` numbers each, a multiple of the lanes. */
void rsv_exp(int64_t count, const REAL *x, REAL *y)
{
    for (int64_t i = 0; i < count; i += LANES) store(y + i, vec_exp(load(x + i)));
}

#include "trial.h"
