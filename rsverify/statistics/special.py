"""The few special functions that intervals need, in plain Python: loading scipy.special costs more than a whole estimate.

scipy is the oracle of their tests.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_EPS = 2.0**-52
_LARGE = 5000.0
"""Degrees of freedom from which the expansion of Student's quantile in 1/freedom is as exact as the continued fraction."""


def normal_tail(z: float) -> float:
    """P(Z > z), with full relative precision far out."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def normal_upper(tail: float) -> float:
    """z with P(Z > z) = tail."""
    return -_NORMAL.inv_cdf(tail)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), the distribution function of a Beta(a, b) variable.

    In words: the continued fraction of Gauss, evaluated by Lentz's method where it converges fast, else for 1 - I_(1-x)(b, a).
    Source: Abramowitz and Stegun 26.5.8.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 2 * _EPS:
            return front * value
    raise ArithmeticError(f"the continued fraction of I_x(a, b) at a={a}, b={b}, x={x} did not converge; this is a bug of ours")


def _away(value: float, tiny: float) -> float:
    return tiny if abs(value) < tiny else value


@lru_cache(maxsize=4096)
def student_upper(tail: float, freedom: float) -> float:
    """t >= 0 with P(T > t) = tail <= 1/2, for Student's law of `freedom` degrees.

    In words: Newton's method on log P(T > t) against log t, kept inside a bracket; for many degrees of freedom the
    expansion in 1/freedom around the normal quantile. Source: Abramowitz and Stegun 26.7.1, 26.7.5.
    """
    if tail >= 0.5:
        return 0.0
    z = normal_upper(tail)
    if freedom >= _LARGE:
        return z + sum(g / freedom**k for k, g in enumerate(_expansion(z), start=1))
    lo, hi = math.log(z) - 1e-9, math.inf  # Student's tail is the heavier one
    u, scale = math.log(z), math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    for _ in range(200):
        t = math.exp(u)
        here = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
        miss = math.log(here / tail)
        lo, hi = (u, hi) if miss > 0 else (lo, u)
        density = math.exp(scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))
        step = miss * here / (t * density)
        u = u + step if lo <= u + step <= hi else (lo + hi) / 2 if hi < math.inf else u + 1
        if abs(step) < 1e-8:  # Newton's error squares: what is left is below 1e-15
            break
    return math.exp(u)


def _expansion(z: float) -> tuple[float, float, float, float]:
    q = z * z
    return (
        z * (q + 1) / 4,
        z * ((5 * q + 16) * q + 3) / 96,
        z * (((3 * q + 19) * q + 17) * q - 15) / 384,
        z * ((((79 * q + 776) * q + 1482) * q - 1920) * q - 945) / 92160,
    )


def digamma(x: np.ndarray | float) -> np.ndarray:
    """psi(x), the derivative of log Gamma, for x > 0: E log of a Gamma(x) variable. Source: Abramowitz and Stegun 6.3.5, 6.3.18."""
    x = np.array(x, dtype=np.float64)
    shift = np.zeros_like(x)
    for _ in range(10):  # from 10 on the series below is exact to rounding
        small = x < 10
        shift = np.where(small, shift - 1 / x, shift)
        x = np.where(small, x + 1, x)
    w = 1 / (x * x)
    series = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w * (1 / 132 - w * (691 / 32760 - w / 12))))))
    return shift + np.log(x) - 0.5 / x - series


def trigamma(x: np.ndarray | float) -> np.ndarray:
    """psi1(x), for x > 0: the variance of the log of a Gamma(x) variable. Source: Abramowitz and Stegun 6.4.6, 6.4.12."""
    x = np.array(x, dtype=np.float64)
    shift = np.zeros_like(x)
    for _ in range(10):
        small = x < 10
        shift = np.where(small, shift + 1 / (x * x), shift)
        x = np.where(small, x + 1, x)
    w = 1 / (x * x)
    series = w * (1 / 6 - w * (1 / 30 - w * (1 / 42 - w * (1 / 30 - w * (5 / 66 - w * (691 / 2730 - w * 7 / 6))))))
    return shift + 1 / x + w / 2 + series / x
