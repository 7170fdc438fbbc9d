/* Vectors of REAL as wide as the registers, in the compiler's own extension: any architecture, no intrinsics. All that depends on the width
 * or the number of registers follows from VECTOR_BYTES and REGISTERS. */
#ifndef RSV_VEC_H
#define RSV_VEC_H
#include <stdint.h>

/* Before a loop over a constant number of vectors: its body as often, so that they stay in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#ifndef REAL
#define REAL float
#endif
#define RSV_BYTES_float 4
#define RSV_BYTES_double 8
#define RSV_JOIN(a, b) a##b
#define RSV_BYTES(real) RSV_JOIN(RSV_BYTES_, real)
#if RSV_BYTES(REAL) == 8 && !defined(REAL_IS_DOUBLE)
#define REAL_IS_DOUBLE 1
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define REGISTERS 32
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define REGISTERS 32
#else /* SSE2, and what is not known: two vectors of two numbers at least are everywhere, if need be in pieces */
#define VECTOR_BYTES 16
#define REGISTERS 16
#endif

typedef REAL vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias)); /* loads need not be aligned */
#define LANE_COUNT (VECTOR_BYTES / RSV_BYTES(REAL)) /* for #if */
#define LANES ((int64_t)LANE_COUNT)
#ifdef REAL_IS_DOUBLE
typedef int64_t whole;
#else
typedef int32_t whole;
#endif
typedef whole ints __attribute__((vector_size(VECTOR_BYTES))); /* what comparing two vecs gives: -1 where true, 0 elsewhere */

/* A short row, a half of a head among them, goes through in vectors of at most 32 bytes: widths are multiples of eight numbers as a rule, and a
 * loop over so few costs more than they do. */
#define SHORT_BYTES (VECTOR_BYTES < 32 ? VECTOR_BYTES : 32)
typedef REAL short_vec __attribute__((vector_size(SHORT_BYTES), aligned(sizeof(REAL)), may_alias));
#define SHORT_LANES ((int64_t)(SHORT_BYTES / RSV_BYTES(REAL)))

#define REAL_INFINITY ((REAL)__builtin_inf())

static inline vec load(const REAL *from) { return *(const vec *)from; }
static inline void store(REAL *to, vec a) { *(vec *)to = a; }
static inline vec all(REAL a) { return a - (vec){0}; } /* minus: -0 stays -0 */

/* The first `count` < LANES numbers, by halves of a half: one by one takes longer than the product they come from. */
static inline void copy_part(const REAL *from, int64_t count, REAL *to)
{
UNROLL
    for (int64_t piece = LANES / 2; piece > 0; piece /= 2)
        if (count & piece) {
            __builtin_memcpy(to, from, piece * sizeof(REAL));
            to += piece;
            from += piece;
        }
}

/* The first `count` < LANES values, `rest` behind them. */
static inline vec load_part(const REAL *from, int64_t count, REAL rest)
{
    REAL lane[LANES] __attribute__((aligned(VECTOR_BYTES)));
    store(lane, all(rest));
    copy_part(from, count, lane);
    return load(lane);
}

static inline void store_part(REAL *to, vec a, int64_t count)
{
    REAL lane[LANES] __attribute__((aligned(VECTOR_BYTES)));
    store(lane, a);
    copy_part(lane, count, to);
}

static inline vec pick(ints which, vec yes, vec no) { return (vec)((which & (ints)yes) | (~which & (ints)no)); }

/* The greater; b where either is NaN. */
static inline vec vec_max(vec a, vec b) { return pick((ints)(a > b), a, b); }

/* Sum of the lanes, halves onto halves. */
static inline REAL vec_sum(vec a)
{
    typedef REAL of_32 __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));
    typedef REAL of_16 __attribute__((vector_size(16), aligned(sizeof(REAL)), may_alias));
#if VECTOR_BYTES == 64
    const of_32 *half = (const of_32 *)&a, b = half[0] + half[1];
#elif VECTOR_BYTES == 32
    const of_32 b = a;
#endif
#if VECTOR_BYTES >= 32
    const of_16 *quarter = (const of_16 *)&b, c = quarter[0] + quarter[1];
#else
    const of_16 c = a;
#endif
#ifdef REAL_IS_DOUBLE
    return c[0] + c[1];
#else
    return (c[0] + c[2]) + (c[1] + c[3]);
#endif
}

/* The greatest lane; lanes that are NaN may be passed over. */
static inline REAL vec_greatest(vec a)
{
    REAL lane[LANES]; /* through memory: compilers take lanes out of a register one by one */
    store(lane, a);
UNROLL
    for (int half = LANES / 2; half > 0; half /= 2)
UNROLL
        for (int i = 0; i < half; i++) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

/* ln 2 in two parts, the first short enough that n times it is exact: Cody and Waite 1980; the splits of Cephes expf and fdlibm e_exp.
 * LOWEST, HIGHEST: the arguments nearest to the ends at which the result is normal and finite. */
#ifdef REAL_IS_DOUBLE
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define LOWEST -708.39641853226408
#define HIGHEST 709.78271289338397
#define ROUNDER 0x1.8p52
enum { MANTISSA = 52 };
#else
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define LOWEST -87.3365402f
#define HIGHEST 88.7228317f
#define ROUNDER 0x1.8p23f
enum { MANTISSA = 23 };
#endif

/* exp(r) for |r| <= ln(2) / 2: Taylor's sum up to the first term that is left out below a tenth of an ulp. */
static inline vec exp_near_zero(vec r)
{
#define TERM(n) p = p * r + (REAL)(1.0 / (n))
#ifdef REAL_IS_DOUBLE
    vec p = all(1.0 / 6227020800.0);
    TERM(479001600.0);
    TERM(39916800.0);
    TERM(3628800.0);
    TERM(362880.0);
    TERM(40320.0);
    TERM(5040.0);
#else
    vec p = all((REAL)(1.0 / 5040.0));
#endif
    TERM(720.0);
    TERM(120.0);
    TERM(24.0);
    TERM(6.0);
    TERM(2.0);
#undef TERM
    return 1 + (r + r * r * p);
}

/* exp: at most 2 ulp wrong where the result is normal, 0 below, inf above, NaN for NaN. */
static inline vec vec_exp(vec x)
{
    const vec shifted = x * (REAL)1.44269504088896340736 + (REAL)ROUNDER; /* n = round(x / ln 2) stands in its last bits */
    const vec n = shifted - (REAL)ROUNDER;
    const vec r = (x - n * (REAL)LN2_HIGH) - n * (REAL)LN2_LOW;
    const vec normal = (vec)((ints)exp_near_zero(r) + ((ints)shifted << MANTISSA));
    const vec not_below = pick((ints)(x <= (REAL)HIGHEST), normal, x + REAL_INFINITY);
    return (vec)((ints)not_below & ~(ints)(x < (REAL)LOWEST));
}
#endif
