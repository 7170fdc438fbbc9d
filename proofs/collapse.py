"""The collapse of alpha/r under SGD: the step shrinks as 1/r, and only a learning rate that grows with r brings it back."""

import sympy as sp

from rsverify.proving import BallBound, Identity, Inequality, Lemma, Limit, Step, run_alone, taken

r, alpha, lr, variance, size, wish, base, steps = sp.symbols("r alpha lr variance size wish base steps", positive=True)
gamma = alpha / r
k_steps, norms = taken("k-steps"), taken("gaussian-norm-moments")
reach = -k_steps("leading", gamma=gamma)  # the mean output to leading order, size an entry of G x*
mean_norm, above = norms("norm_below").args  # E |A_0 x| in units of sqrt(variance) |x|, and what it is below

lemma = Lemma(
    name="collapse",
    statement=(
        "With gamma = alpha/r the mean output after any fixed number of SGD steps is -(alpha^2/r) variance lr G x* to leading order: it"
        " falls as"
        " 1/r, doubling the rank halves it, and lr must grow as r to keep it."
    ),
    assumptions=("those of k-steps",),
    uses=("k-steps", "gaussian-norm-moments"),
    source="Kalajdzievski 2023, arXiv 2312.03732: the usual factor slows learning at high rank (abstract opened, the paper not seen)",
    steps=(
        Step(
            "r times the mean output tends to a constant that is not zero.",
            Limit(r * reach, alpha**2 * variance * lr * size, r, "r (alpha/r)^2 r variance lr size"),
        ),
        Step("The mean output itself tends to zero: in the limit there is no training at all.", Limit(reach, sp.Integer(0), r)),
        Step(
            "Doubling the rank halves the step.",
            Identity(reach.subs(r, 2 * r), alpha**2 * variance * lr * size / (2 * r), "step at rank 2 r"),
        ),
        Step(
            "lr = base r makes it free of r.", Identity(reach.subs(lr, base * r), alpha**2 * variance * base * size, "step at lr = base r")
        ),
        Step(
            "So does alpha = base sqrt(r): the rule alpha/sqrt(r) in disguise.",
            Identity(
                reach.subs(alpha, base * sp.Symbol("s", positive=True)).subs(r, sp.Symbol("s", positive=True) ** 2),
                base**2 * variance * lr * size,
                "step at alpha = base s, r = s^2",
            ),
        ),
        Step(
            "Whatever size is wished for, the step is under it from r = alpha^2 variance lr size / wish on.",
            Inequality(
                reach < wish,
                (r > alpha**2 * variance * lr * size / wish,),
                (("coefficient", 2 * reach < wish), ("exponent", reach * r < wish)),
            ),
        ),
        Step(
            "What E |A_0 x| is below (gaussian-norm-moments), over r: its square is 1/r and a rest that is negative from r = 1 on.",
            Identity((above / r) ** 2, 1 / r - (2 * r - 1) / (4 * r**3), "(sqrt(r - 1/2 + 1/(4 r))/r)^2"),
        ),
        Step(
            "The mean gradient norm at init goes down too, not its mean square alone: for normal A, E |A_0 x| / r is under r^(-1/2).",
            BallBound(
                mean_norm / r,
                1 / sp.sqrt(r),
                r,
                4096,
                (
                    ("coefficient", (mean_norm / r, 1 / sp.sqrt(2 * r))),
                    ("exponent", (mean_norm / r, 1 / r)),
                    ("sign", (mean_norm / r, -1 / sp.sqrt(r))),
                ),
            ),
        ),
    ),
    remarks=(
        "Under Adam alpha/r is the stable rule (sign-steps): whether it collapses is a statement about SGD and about gradient norms.",
        "A larger alpha at one rank hides the collapse at that rank and moves it to the next.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
