"""The theorem: under SGD adapters are rank-stabilized if and only if gamma is Theta(1/sqrt r)."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Step, run_alone, taken

r, gamma, alpha, lr, low, high, size, wish = sp.symbols("r gamma alpha lr low high size wish", positive=True)
variance, fourth, d, v, overlap, dot, x_norm2, probe_norm2 = sp.symbols(
    "variance fourth d v overlap dot x_norm2 probe_norm2", positive=True
)
power_sum, rest, top = sp.symbols("S22 rest top", nonnegative=True)
middle, q_norm2, z_norm2 = sp.symbols("middle q_norm2 z_norm2", positive=True)
forward, backward, k_steps, theta = map(taken, ("forward-clause", "backward-clause", "k-steps", "theta-of-gamma"))

g2 = gamma**2 * r  # what everything turns on
square = g2**2 * (middle**2 + rest / r)  # the form of every mean square below

lemma = Lemma(
    name="rank-stabilization",
    statement=(
        "Under SGD, from B_0 = 0 and A_0 with centred independent entries of a variance free of r, these are of order one in r if and"
        " only if gamma is Theta(1/sqrt r): the means over A_0 of the output and of the gradient to the input after any fixed number of"
        " steps, the mean square of the output after any fixed number, and that of the gradient to the input after the first. Where"
        " gamma sqrt(r) leaves every bound the output is unstable, where it comes under every bound it collapses."
    ),
    assumptions=(
        "the assumptions of forward-clause, backward-clause and k-steps: given signals, probes not orthogonal to what was trained on,"
        " width fixed",
        "gamma tends to zero as r grows (only for steps after the first)",
    ),
    uses=("forward-clause", "backward-clause", "k-steps", "theta-of-gamma"),
    source="Kalajdzievski 2023, arXiv 2312.03732, Theorem 3.2 (quoted in notes on the paper; the paper itself not seen)",
    steps=(
        Step(
            "The mean output after one step is a size free of r times gamma^2 r.",
            Identity(forward("mean"), -g2 * lr * v * variance * dot, "E y of forward-clause"),
        ),
        Step(
            "So is the mean gradient to the input, along x.",
            Identity(backward("mean"), -g2 * lr * overlap * variance, "E g of backward-clause over x"),
        ),
        Step(
            "So is the mean output after any number of steps, to leading order, and the gradient to the input with it (k-steps).",
            Identity(k_steps("leading"), -g2 * variance * lr * size, "E gamma B_k A_k x* of k-steps"),
        ),
        Step(
            "What is left of leading order is small: such a mean lies between half and three halves of it.",
            Inequality(
                sp.And(g2 * size / 2 <= sp.Abs(g2 * middle), sp.Abs(g2 * middle) <= 3 * g2 * size / 2),
                (k_steps("bounds", g2=g2, error=middle - size),),
                (
                    ("coefficient", g2 * size <= sp.Abs(g2 * middle)),
                    ("exponent", sp.Abs(g2 * middle) <= 3 * g2 * size**2 / 2),
                ),
            ),
        ),
        Step(
            "The mean square of the output after one step is (gamma^2 r)^2 (middle^2 + rest/r), middle and rest free of r.",
            Identity(
                forward("square") / g2**2,
                (lr * v) ** 2
                * ((variance * dot) ** 2 + (variance**2 * (x_norm2 * probe_norm2 + dot**2) + (fourth - 3 * variance**2) * power_sum) / r),
                "E y^2 of forward-clause over (gamma^2 r)^2",
            ),
        ),
        Step(
            "So is that of the gradient to the input after one step.",
            Identity(
                backward("square") / g2**2,
                (lr * overlap) ** 2 * x_norm2 * (variance**2 + ((d - 2) * variance**2 + fourth) / r),
                "E |g|^2 of backward-clause over (gamma^2 r)^2",
            ),
        ),
        Step(
            "So is that of an output entry after any number of steps, with vectors q and z that tend to limits (k-steps).",
            Identity(
                k_steps("square", dot=dot),
                (variance * dot) ** 2 + (variance**2 * (q_norm2 * z_norm2 + dot**2) + (fourth - 3 * variance**2) * power_sum) / r,
                "E y^2 of k-steps over (gamma^2 r)^2",
            ),
        ),
        Step(
            "If: gamma sqrt(r) between low and high puts gamma^2 r between their squares (theta-of-gamma), and every mean size gamma^2 r"
            " between size low^2 and size high^2.",
            Inequality(
                sp.And(size * low**2 <= size * g2, size * g2 <= size * high**2),
                (theta("squared"),),
                (("exponent", size * low <= size * g2), ("coefficient", 2 * size * low**2 <= size * g2)),
            ),
        ),
        Step(
            "And every mean square between bounds free of r, middle lying between half and three halves of its limit `size`, and 0 <="
            " rest <= top.",
            Inequality(
                sp.And(low**4 * size**2 / 4 <= square, square <= high**4 * (9 * size**2 / 4 + top)),
                (theta("squared"), size / 2 <= middle, middle <= 3 * size / 2, rest <= top, r >= 1),
                (
                    ("coefficient", low**4 * size**2 <= square),
                    ("sign", square <= high**4 * (9 * size**2 / 4 - top)),
                    ("exponent", square <= high**2 * (9 * size**2 / 4 + top)),
                ),
            ),
        ),
        Step(
            "Only if: bounds on the mean output after the first step bound gamma sqrt(r) (theta-of-gamma).",
            Inequality(
                theta("rooted", low=low / size, high=high / size),
                (low <= size * g2, size * g2 <= high),
                (
                    ("exponent", theta("rooted", low=low / size**2, high=high / size**2)),
                    ("coefficient", theta("rooted", low=2 * low / size, high=high / size)),
                ),
            ),
        ),
        Step(
            "And so do bounds on any of the mean squares: on (gamma^2 r)^2, up to the factors that middle and rest leave open.",
            Inequality(
                sp.And(low <= g2**2 * (9 * size**2 / 4 + top), g2**2 * size**2 / 4 <= high),
                (low <= square, square <= high, size / 2 <= middle, middle <= 3 * size / 2, rest <= top, r >= 1),
                (
                    ("coefficient", g2**2 * size**2 <= high),
                    ("sign", low <= g2**2 * (9 * size**2 / 4 - top)),
                    ("exponent", low <= g2 * (9 * size**2 / 4 + top)),
                ),
            ),
        ),
        Step(
            "Unstable: where gamma sqrt(r) passes every bound, so does the mean output; for a bound `wish`, once gamma sqrt(r) >"
            " sqrt(wish/size).",
            Inequality(
                size * g2 > wish,
                (gamma * sp.sqrt(r) > sp.sqrt(wish / size),),
                (("coefficient", size * g2 > 2 * wish), ("exponent", size * gamma * sp.sqrt(r) > wish)),
            ),
        ),
        Step(
            "Collapsing: where gamma sqrt(r) comes under every bound, so does the mean output.",
            Inequality(
                size * g2 < wish,
                (gamma * sp.sqrt(r) < sp.sqrt(wish / size),),
                (("coefficient", 2 * size * g2 < wish), ("exponent", size * gamma * sp.sqrt(r) < wish)),
            ),
        ),
    ),
    remarks=(
        "Not claimed: the mean square of the gradient to the input after the second step and later; signals that follow the output.",
        "Neither Theta nor its failure says that every gamma is unstable or collapsing: one that swings between 1/r and 1 is both,"
        " along two sequences of ranks. The last two steps speak of such sequences.",
        "Under Adam the same statement is false: the stable rule at a fixed learning rate is 1/r (sign-steps).",
        "For an orthogonal probe, or with the width grown first, the power is 1/4 (forward-clause, backward-clause).",
        "An init whose variance depends on r moves the power: std 1/r makes it -1/2, with gamma growing as sqrt(r).",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
