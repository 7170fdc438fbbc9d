/* What of the processor this library was compiled to use, in the words of Linux's /proc/cpuinfo: a string that the loader reads without running
 * anything of the library. Only what a compiler uses by itself, not what a program must ask for. */
#ifndef RSV_COMPILED_FOR_H
#define RSV_COMPILED_FOR_H

#if defined(__x86_64__) || defined(__i386__)
#define RSV_MACHINE "x86 "
#elif defined(__aarch64__)
#define RSV_MACHINE "arm "
#else
#define RSV_MACHINE "other "
#endif

const char rsv_features[] = RSV_MACHINE
#ifdef __SSE3__
    "pni "
#endif
#ifdef __SSSE3__
    "ssse3 "
#endif
#ifdef __SSE4_1__
    "sse4_1 "
#endif
#ifdef __SSE4_2__
    "sse4_2 "
#endif
#ifdef __SSE4A__
    "sse4a "
#endif
#ifdef __POPCNT__
    "popcnt "
#endif
#ifdef __MOVBE__
    "movbe "
#endif
#ifdef __ADX__
    "adx "
#endif
#ifdef __BMI__
    "bmi1 "
#endif
#ifdef __BMI2__
    "bmi2 "
#endif
#ifdef __LZCNT__
    "abm "
#endif
#ifdef __TBM__
    "tbm "
#endif
#ifdef __XOP__
    "xop "
#endif
#ifdef __FMA4__
    "fma4 "
#endif
#ifdef __F16C__
    "f16c "
#endif
#ifdef __FMA__
    "fma "
#endif
#ifdef __AVX__
    "avx "
#endif
#ifdef __AVX2__
    "avx2 "
#endif
#ifdef __GFNI__
    "gfni "
#endif
#ifdef __AVXVNNI__
    "avx_vnni "
#endif
#ifdef __AVX512F__
    "avx512f "
#endif
#ifdef __AVX512CD__
    "avx512cd "
#endif
#ifdef __AVX512ER__
    "avx512er "
#endif
#ifdef __AVX512PF__
    "avx512pf "
#endif
#ifdef __AVX512DQ__
    "avx512dq "
#endif
#ifdef __AVX512BW__
    "avx512bw "
#endif
#ifdef __AVX512VL__
    "avx512vl "
#endif
#ifdef __AVX512IFMA__
    "avx512ifma "
#endif
#ifdef __AVX512VBMI__
    "avx512vbmi "
#endif
#ifdef __AVX512VBMI2__
    "avx512_vbmi2 "
#endif
#ifdef __AVX512VNNI__
    "avx512_vnni "
#endif
#ifdef __AVX512BITALG__
    "avx512_bitalg "
#endif
#ifdef __AVX512VPOPCNTDQ__
    "avx512_vpopcntdq "
#endif
#ifdef __AVX512BF16__
    "avx512_bf16 "
#endif
#ifdef __AVX512FP16__
    "avx512_fp16 "
#endif
#ifdef __AMX_TILE__
    "amx_tile "
#endif
#ifdef __ARM_FEATURE_ATOMICS
    "atomics "
#endif
#ifdef __ARM_FEATURE_DOTPROD
    "asimddp "
#endif
#ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
    "asimdhp "
#endif
#ifdef __ARM_FEATURE_SVE
    "sve "
#endif
#ifdef __ARM_FEATURE_SVE2
    "sve2 "
#endif
    ;
#endif
