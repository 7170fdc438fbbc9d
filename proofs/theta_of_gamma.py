"""What Theta(1/sqrt r) means for gamma: exactly that gamma^2 r stays between two positive constants."""

import sympy as sp

from rsverify.proving import Inequality, Lemma, Step, run_alone

r, gamma, alpha, low, high, reach, wish, p = sp.symbols("r gamma alpha low high reach wish p", positive=True)
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
        ),
        Step(
            "Only if: low <= gamma^2 r <= high bounds gamma sqrt(r) by the roots.",
            Inequality(
                sp.And(sp.sqrt(low) <= scaled, scaled <= sp.sqrt(high)),
                (low <= gamma**2 * r, gamma**2 * r <= high),
                (("exponent", low <= scaled), ("coefficient", 2 * sp.sqrt(low) <= scaled)),
            ),
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
            "Witness above (p = 1): whatever lower bound is wished for, alpha/r is under it from r = alpha^2/wish on.",
            Inequality(
                (alpha / r) ** 2 * r < wish,
                (r > alpha**2 / wish,),
                (("exponent", (alpha / sp.sqrt(r)) ** 2 * r < wish), ("coefficient", 2 * (alpha / r) ** 2 * r < wish)),
            ),
        ),
        Step(
            "Witness below (p = 1/4): whatever upper bound is wished for, alpha/r^(1/4) is over it from r = (wish/alpha^2)^2 on; with"
            " reach = sqrt(r).",
            Inequality(
                (alpha**2 / reach) * reach**2 > wish,
                (reach > wish / alpha**2,),
                (("exponent", (alpha**2 / reach) * reach > wish), ("coefficient", (alpha**2 / reach) * reach**2 > 2 * wish)),
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
