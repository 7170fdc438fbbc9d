"""The theorem: under SGD adapters are rank-stabilized if and only if gamma is Theta(1/sqrt r)."""

import sympy as sp

from rsverify.proving import Inequality, Lemma, Step, run_alone

r, gamma, alpha, low, high, size, wish = sp.symbols("r gamma alpha low high size wish", positive=True)
g2 = gamma**2 * r  # what both clauses turn on

lemma = Lemma(
    name="rank-stabilization",
    statement=(
        "Under SGD, from B_0 = 0 and A_0 with centred independent entries of a variance free of r, the output and the gradient to the"
        " input are"
        " of order one in r at every step, in mean and mean square over A_0, if and only if gamma is Theta(1/sqrt r); else learning is"
        " unstable or collapses at large r."
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
            "If: gamma sqrt(r) between low and high puts every quantity of the form size gamma^2 r (the means of all three clauses, any k)"
            " between size low^2 and size high^2.",
            Inequality(
                sp.And(size * low**2 <= size * g2, size * g2 <= size * high**2),
                (low <= gamma * sp.sqrt(r), gamma * sp.sqrt(r) <= high),
                (("exponent", size * low <= size * g2), ("coefficient", 2 * size * low**2 <= size * g2)),
            ),
        ),
        Step(
            "Only if, in one stroke: bounds on the mean output after the first step bound gamma sqrt(r) by sqrt(low/size) and"
            " sqrt(high/size).",
            Inequality(
                sp.And(low / size <= (gamma * sp.sqrt(r)) ** 2, (gamma * sp.sqrt(r)) ** 2 <= high / size),
                (low <= size * g2, size * g2 <= high),
                (("exponent", low / size <= gamma * sp.sqrt(r)), ("coefficient", (gamma * sp.sqrt(r)) ** 2 <= high / size / 2)),
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
        "Neither Theta nor its failure says that every gamma is unstable or collapsing: one that swings between 1/r and 1 is both,"
        " along two"
        " sequences of ranks. Steps 3 and 4 speak of such sequences.",
        "Under Adam the same statement is false: the stable rule at a fixed learning rate is 1/r (sign-steps).",
        "For an orthogonal probe, or with the width grown first, the power is 1/4 (forward-clause, backward-clause).",
        "An init whose variance depends on r moves the power: std 1/r makes it -1/2, with gamma growing as sqrt(r).",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
