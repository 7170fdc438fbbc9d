"""Moments of x*' A'A x for any law of A: means, second moments, and where excess kurtosis enters."""

import sympy as sp

from rsverify.proving import Identity, Induction, Inequality, Lemma, Step, mean, run_alone

r, variance, fourth, x_norm2, probe_norm2, bound = sp.symbols("r variance fourth x_norm2 probe_norm2 bound", positive=True)
power_sum = sp.Symbol("S22", nonnegative=True)
dot, xi, eta, third, skew_21, skew_12, upper, lower = sp.symbols("dot xi eta third skew_21 skew_12 upper lower", real=True)
a, u, w, q, p = sp.symbols("a u w q p")
ZERO = sp.Integer(0)

# One row a of A answers x with u = a.x and the probe x* with w = a.x*; one more input has entries xi and eta.
NO_INPUT = {x_norm2: ZERO, probe_norm2: ZERO, dot: ZERO, power_sum: ZERO}
ANOTHER_INPUT = {
    x_norm2: x_norm2 + xi**2,
    probe_norm2: probe_norm2 + eta**2,
    dot: dot + xi * eta,
    power_sum: power_sum + xi**2 * eta**2,
}
of_a = {(1,): ZERO, (2,): variance, (3,): third, (4,): fourth}
of_uw = {
    (1, 0): ZERO, (0, 1): ZERO, (2, 0): variance * x_norm2, (0, 2): variance * probe_norm2, (1, 1): variance * dot,
    (2, 1): skew_21, (1, 2): skew_12,
}  # fmt: skip
excess = fourth - 3 * variance**2
channel = variance**2 * (x_norm2 * probe_norm2 + 2 * dot**2) + excess * power_sum  # E (u w)^2
mean_q = r * variance * dot
square_q = r**2 * variance**2 * dot**2 + r * (variance**2 * (x_norm2 * probe_norm2 + dot**2) + excess * power_sum)
rest = variance**2 * (x_norm2 * probe_norm2 + dot**2) + excess * power_sum  # the variance of q, over r
pairs = x_norm2 * probe_norm2 + dot**2 - 2 * power_sum  # the sum over pairs of inputs of (x_i x*_j + x_j x*_i)^2

lemma = Lemma(
    name="channel-moments",
    statement=(
        "For q = x*' A'A x with independent centred entries of A: E q = r variance dot and"
        " E q^2 = r^2 variance^2 dot^2 + r (variance^2 (|x|^2 |x*|^2 + dot^2) + (fourth - 3 variance^2) S22),"
        " where dot = x.x* and S22 is the sum of x_i^2 x*_i^2. The variance of q is never"
        " negative, and zero only where x_i x*_j + x_j x*_i vanishes for every two inputs (as it does for one input) and A's entries have"
        " one size."
    ),
    assumptions=(
        "the entries of A are independent and alike, of mean zero, with moments variance, third, fourth (third may be anything)",
        "x and x* are given",
    ),
    uses=(),
    source="elementary; the leading terms are those of the theorem of Kalajdzievski 2023, arXiv 2312.03732 (the paper itself not seen)",
    steps=(
        Step(
            "One channel: E u w = variance dot, input by input.",
            Induction(
                variance * dot,
                NO_INPUT,
                ANOTHER_INPUT,
                ZERO,
                lambda before: mean((u + a * xi) * (w + a * eta), ((u, w), of_uw | {(1, 1): before}), ((a,), of_a)),
                "E_uw",
            ),
            "mean_one",
        ),
        Step(
            "One channel: E (u w)^2 has the three pairings and, for a law that is not normal, its excess kurtosis; odd moments drop out.",
            Induction(
                channel,
                NO_INPUT,
                ANOTHER_INPUT,
                ZERO,
                lambda before: mean((u + a * xi) ** 2 * (w + a * eta) ** 2, ((u, w), of_uw | {(2, 2): before}), ((a,), of_a)),
                "E_uuww",
            ),
        ),
        Step(
            "Channels add: E q = r variance dot.",
            Induction(
                mean_q,
                {r: ZERO},
                {r: r + 1},
                ZERO,
                lambda before: mean(q + p, ((q,), {(1,): before}), ((p,), {(1,): variance * dot})),
                "E_q",
            ),
            "mean_q",
        ),
        Step(
            "And E q^2, channel by channel.",
            Induction(
                square_q,
                {r: ZERO},
                {r: r + 1},
                ZERO,
                lambda before: mean((q + p) ** 2, ((q,), {(1,): mean_q, (2,): before}), ((p,), {(1,): variance * dot, (2,): channel})),
                "E_qq",
            ),
            "square_q",
        ),
        Step(
            "So the variance of q is r times a rest.",
            Identity((square_q - mean_q**2) / r, rest, "(E q^2 - (E q)^2) / r"),
            "rest",
        ),
        Step(
            "fourth - variance^2 is the mean of a square, hence not negative; it is zero where all entries have one size.",
            Identity(mean((a**2 - variance) ** 2, ((a,), of_a)), fourth - variance**2, "E (a^2 - variance)^2"),
            "kurtosis",
        ),
        Step(
            "|x|^2 |x*|^2 + dot^2 - 2 S22 grows with one more input by |xi x* + eta x|^2 ...",
            Identity(
                pairs.subs(ANOTHER_INPUT, simultaneous=True) - pairs,
                xi**2 * probe_norm2 + eta**2 * x_norm2 + 2 * xi * eta * dot,
                "its change",
            ),
        ),
        Step(
            "... which is not negative (dot^2 <= |x|^2 |x*|^2 here): it is the sum of (x_i x*_j + x_j x*_i)^2 over the pairs of inputs.",
            Inequality(
                xi**2 * probe_norm2 + eta**2 * x_norm2 + 2 * xi * eta * dot >= 0,
                (dot**2 <= x_norm2 * probe_norm2,),
                (
                    ("coefficient", xi**2 * probe_norm2 + eta**2 * x_norm2 + 3 * xi * eta * dot >= 0),
                    ("sign", xi**2 * probe_norm2 - eta**2 * x_norm2 + 2 * xi * eta * dot >= 0),
                ),
            ),
        ),
        Step(
            "So the rest, variance^2 times that sum and (fourth - variance^2) S22, is not negative, and zero only where both are.",
            Inequality(
                sp.And(rest >= 0, sp.Implies(sp.Eq(rest, 0), sp.And(sp.Eq(pairs, 0), sp.Eq((fourth - variance**2) * power_sum, 0)))),
                (pairs >= 0, fourth >= variance**2),
                (
                    ("coefficient", variance**2 * (x_norm2 * probe_norm2 + dot**2) + (fourth - 4 * variance**2) * power_sum >= 0),
                    ("sign", variance**2 * (x_norm2 * probe_norm2 - dot**2) + excess * power_sum >= 0),
                ),
            ),
            "rest_sign",
        ),
        Step(
            "The exception: with one input that sum is zero, and entries of one size leave q a constant.",
            Identity(
                rest.subs({x_norm2: xi**2, probe_norm2: eta**2, dot: xi * eta, power_sum: xi**2 * eta**2}),
                (fourth - variance**2) * xi**2 * eta**2,
                "the rest of one input",
            ),
        ),
        Step(
            "A normal law has fourth = 3 variance^2; on the probe x* = x this is r (r + 2) again.",
            Identity(square_q.subs({fourth: 3 * variance**2, probe_norm2: x_norm2, dot: x_norm2}), variance**2 * x_norm2**2 * r * (r + 2)),
        ),
        Step(
            "The mean of a^2 over an interval: the difference of a^3/3 over its length.",
            Identity((upper**3 - lower**3) / (3 * (upper - lower)), (upper**2 + upper * lower + lower**2) / 3, where=(upper - lower,)),
        ),
        Step(
            "The mean of a^4 over an interval.",
            Identity(
                (upper**5 - lower**5) / (5 * (upper - lower)),
                (upper**4 + upper**3 * lower + upper**2 * lower**2 + upper * lower**3 + lower**4) / 5,
                where=(upper - lower,),
            ),
        ),
        Step(
            "Hence a uniform law on [-bound, bound], Kaiming's, has variance bound^2/3, fourth moment bound^4/5, and excess -2 bound^4/15.",
            Identity(
                excess.subs({fourth: bound**4 / 5, variance: bound**2 / 3}),
                -2 * bound**4 / 15,
                "bound^4/5 - 3 (bound^2/3)^2",
            ),
        ),
    ),
    remarks=(
        "The kurtosis term is of order r while the leading term is r^2: for an aligned probe the law of A matters at finite rank only.",
        "Orthonormal rows are dependent: nothing here speaks of them.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
