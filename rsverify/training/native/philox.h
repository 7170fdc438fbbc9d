/* Uniform factors at init from numpy's own stream: Philox4x64-10 (Salmon et al. 2011), as numpy's Generator reads it. */
#ifndef RSV_PHILOX_H
#define RSV_PHILOX_H
#include "vec.h"

/* One factor: `count` entries at `to`, uniform on [-scale, scale), from the stream of `key`. */
typedef struct {
    uint64_t key[2];
    int64_t count;
    double scale;
    REAL *to;
} rsv_uniform_draw;

/* The four numbers of a counter; only its first word is ever in use. */
static inline void philox(uint64_t counter, uint64_t key0, uint64_t key1, uint64_t found[4])
{
    uint64_t a = counter, b = 0, c = 0, d = 0;
UNROLL
    for (int round = 0; round < 10; round++) {
        const unsigned __int128 first = (unsigned __int128)0xD2E7470EE14C6C93u * a, second = (unsigned __int128)0xCA5A826395121157u * c;
        a = (uint64_t)(second >> 64) ^ b ^ key0, b = (uint64_t)second;
        c = (uint64_t)(first >> 64) ^ d ^ key1, d = (uint64_t)first;
        key0 += 0x9E3779B97F4A7C15u, key1 += 0xBB67AE8584CAA73Bu;
    }
    found[0] = a, found[1] = b, found[2] = c, found[3] = d;
}

/* The upper 53 bits as a double in [0, 1), moved to [-1, 1), which is exact; rounded when scaled and again to REAL, as numpy does. */
static inline REAL entry(uint64_t bits, double scale) { return (REAL)(scale * (2 * ((double)(int64_t)(bits >> 11) * 0x1p-53) - 1)); }

/* Draws (count,), each as `(Generator.uniform(-1, 1, size) * scale).astype(REAL)`. */
void rsv_uniform(int64_t count, const rsv_uniform_draw *draws)
{
    uint64_t bits[4];
    for (const rsv_uniform_draw *draw = draws; draw < draws + count; draw++)
        for (int64_t i = 0; i < draw->count; i += 4) {
            philox(1 + i / 4, draw->key[0], draw->key[1], bits); /* numpy counts before it draws */
            for (int64_t j = 0; j < 4 && i + j < draw->count; j++) draw->to[i + j] = entry(bits[j], draw->scale);
        }
}
#endif
