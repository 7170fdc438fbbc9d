/* Adam's step on a factor whose gradient lies in the cache: no gradient goes through memory. */
#ifndef RSV_ADAM_H
#define RSV_ADAM_H
#include "pointwise.h"

/* Constants of one step. one, other: 1 - beta1 and 1 - beta2; coupled: weight decay added to the gradient (Adam); shrink: taken off the weight
 * at the learning rate (AdamW); first, second: 1 - beta1^t and sqrt(1 - beta2^t), the corrections of moments that began at zero. */
typedef struct {
    REAL one, other, beta2, eps, coupled, shrink, first, second;
} rsv_adam;

/* In place on w, m and s of `count` entries, in the order of torch's fused kernel. */
static void adam_step(const rsv_adam *at, REAL lr, int64_t count, const REAL *restrict g, REAL *restrict w, REAL *restrict m, REAL *restrict s)
{
    const REAL one = at->one, other = at->other, beta2 = at->beta2, eps = at->eps, coupled = at->coupled;
    const REAL kept = 1 - lr * at->shrink, size = lr / at->first, inverse = 1 / at->second;
    for (int64_t i = 0; i < count; i++) {
        const REAL slope = g[i] + coupled * w[i], mean = m[i] + one * (slope - m[i]), square = beta2 * s[i] + other * slope * slope;
        m[i] = mean;
        s[i] = square;
        w[i] = kept * w[i] - size * mean / (square_root(square) * inverse + eps);
    }
}
#endif
