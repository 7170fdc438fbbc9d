"""What Theta(1/sqrt r) means for gamma: exactly that gamma^2 r stays between two positive constants."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Step, run_alone

r, gamma, alpha, low, high, wish, power = sp.symbols("r gamma alpha low high wish power", positive=True)
p, log_r, h, n, product = sp.symbols("p log_r h n product", real=True)
scaled = gamma * sp.sqrt(r)
half = sp.Rational(1, 2)

lemma = Lemma(
    name="theta-of-gamma",
    statement=(
        "gamma is Theta(1/sqrt r) if and only if gamma^2 r is Theta(1), with explicit constants both ways; a rule alpha r^-p is so only"
        " for p = 1/2, and leaves every bound for any other p."
    ),
    assumptions=("gamma > 0 at every rank; Theta(f) means low f <= gamma <= high f with constants 0 < low <= high for every large r",),
    uses=(),
    source="Kalajdzievski 2023, arXiv 2312.03732, Theorem 3.2 states its condition so (quoted in notes on it; the paper itself not seen)",
    steps=(
        Step(
            "If low <= gamma sqrt(r) <= high, then the squares bound gamma^2 r.",
            Inequality(
                sp.And(low**2 <= gamma**2 * r, gamma**2 * r <= high**2),
                (low <= scaled, scaled <= high),
                (("exponent", low <= gamma**2 * r), ("coefficient", 2 * low**2 <= gamma**2 * r)),
            ),
            "squared",
        ),
        Step(
            "Only if: low <= gamma^2 r <= high bounds gamma sqrt(r) by the roots.",
            Inequality(
                sp.And(sp.sqrt(low) <= scaled, scaled <= sp.sqrt(high)),
                (low <= gamma**2 * r, gamma**2 * r <= high),
                (("exponent", low <= scaled), ("coefficient", 2 * sp.sqrt(low) <= scaled)),
            ),
            "rooted",
        ),
        Step(
            "Moments of order m = 2 (and by repetition 4, 8) add nothing: bounds on (gamma^2 r)^2 are bounds on gamma^2 r.",
            Inequality(
                sp.Equivalent(
                    sp.And(low**2 <= (gamma**2 * r) ** 2, (gamma**2 * r) ** 2 <= high**2), sp.And(low <= gamma**2 * r, gamma**2 * r <= high)
                ),
                (low <= high,),
                (("exponent", sp.Implies(low <= (gamma**2 * r) ** 2, low <= gamma**2 * r)),),
            ),
        ),
        Step(
            "For a power law, gamma^2 r = alpha^2 r^(1 - 2p): its exponent is zero at p = 1/2 and nowhere else; above, gamma^2 r falls,"
            " below, it grows.",
            Inequality(
                sp.And(
                    sp.Equivalent(sp.Eq(1 - 2 * p, 0), sp.Eq(p, half)),
                    sp.Equivalent(1 - 2 * p < 0, p > half),
                    sp.Equivalent(1 - 2 * p > 0, p < half),
                ),
                (),
                (
                    ("coefficient", sp.Equivalent(sp.Eq(1 - p, 0), sp.Eq(p, half))),
                    ("sign", sp.Equivalent(sp.Eq(1 + 2 * p, 0), sp.Eq(p, half))),
                    ("exponent", sp.Equivalent(sp.Eq(1 - 2 * p, 0), sp.Eq(p, half**2))),
                ),
            ),
        ),
        Step(
            "Any real power of r, from below: (1 + h)^n >= 1 + n h for h >= -1, one factor more keeping it (product = (1 + h)^n). At"
            " h = y/n, as n grows, e^y >= 1 + y for every real y, the exponential being that limit.",
            Inequality(
                product * (1 + h) >= 1 + (n + 1) * h,
                (product >= 1 + n * h, h >= -1, n >= 0),
                (
                    ("coefficient", product * (1 + h) >= 1 + 2 * (n + 1) * h),
                    ("sign", product * (1 - h) >= 1 + (n + 1) * h),
                    ("exponent", product * (1 + h) ** 2 >= 1 + (n + 3) * h),
                ),
            ),
        ),
        Step(
            "Every p < 1/2: gamma^2 r = alpha^2 power with power = r^(1 - 2p) = e^((1 - 2p) log r) >= 1 + (1 - 2p) log r. Whatever upper"
            " bound is wished for, it is over it from log r = wish/(alpha^2 (1 - 2p)) on.",
            Inequality(
                alpha**2 * power > wish,
                (p < half, power >= 1 + (1 - 2 * p) * log_r, log_r >= wish / (alpha**2 * (1 - 2 * p))),
                (
                    ("coefficient", alpha**2 * power > 2 * wish),
                    ("exponent", alpha * power > wish),
                ),
            ),
        ),
        Step(
            "Every p > 1/2: gamma^2 r = alpha^2/power with power = r^(2p - 1) >= 1 + (2p - 1) log r. Whatever lower bound is wished for,"
            " it is under it from log r = alpha^2/(wish (2p - 1)) on.",
            Inequality(
                alpha**2 / power < wish,
                (p > half, power >= 1 + (2 * p - 1) * log_r, log_r >= alpha**2 / (wish * (2 * p - 1))),
                (
                    ("coefficient", 2 * alpha**2 / power < wish),
                    ("exponent", alpha**2 / power < wish**2),
                ),
            ),
        ),
        Step(
            "p = 1/2: gamma^2 r is alpha^2 at every rank.",
            Identity(
                (alpha * sp.Symbol("root_r", positive=True) ** -1) ** 2 * sp.Symbol("root_r", positive=True) ** 2,
                alpha**2,
                "gamma^2 r at gamma = alpha/root_r, r = root_r^2",
            ),
        ),
    ),
    remarks=(
        "Rules need not be power laws: alpha/sqrt(r + 7) or alpha/sqrt(r) (2 + sin r) are Theta(1/sqrt r) too. The theorem fixes an"
        " order, not a constant.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
