"""The gradient norm at init: gamma sqrt(r), whatever optimizer comes after."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, run_alone, taken, vector, zeros

r, gamma, alpha, variance, x_norm2, v_norm2 = sp.symbols("r gamma alpha variance x_norm2 v_norm2", positive=True)
low, high, constant = sp.symbols("low high constant", positive=True)
A_0, B = matrix("A_0", "r", "i"), matrix("B", "o", "r")
x, v = vector("x", "i"), vector("v", "o")
gradient_B, gradient_A = gamma * (v @ (A_0 @ x).T), gamma * (B.T @ v @ x.T)
mean_square = gamma**2 * v_norm2 * r * variance * x_norm2
channel, theta = taken("channel-moments"), taken("theta-of-gamma")

lemma = Lemma(
    name="gradient-norm-at-init",
    statement=(
        "At init E |dL/dB|^2 = gamma^2 |v|^2 r variance |x|^2 and dL/dA = 0: the norm goes as gamma sqrt(r),"
        " and is of order one exactly when gamma is Theta(1/sqrt r)."
    ),
    assumptions=(
        "B_0 = 0; the entries of A_0 are independent with mean zero and variance `variance`, which is free of r",
        "one sample x with signal v, both free of r",
    ),
    uses=("channel-moments", "theta-of-gamma"),
    source="Kalajdzievski 2023, arXiv 2312.03732, plots this quantity (Figure 3 by notes on the paper; the paper itself not seen)",
    steps=(
        Step(
            "The gradient of A is gamma B' v x', nothing at B = 0: only B's gradient moves the product B A, by gamma v (A_0 x)' A_0.",
            MatrixIdentity(
                (gradient_B @ A_0 + B @ gradient_A).where("B", zeros("o", "r")),
                gamma * (v @ x.T @ A_0.T @ A_0),
            ),
        ),
        Step(
            "The squared norm of gamma v (A_0 x)' is the trace of its product with its transpose, gamma^2 |A_0 x|^2 v v'.",
            MatrixIdentity(gradient_B @ gradient_B.T, gamma**2 * (v @ x.T @ A_0.T @ A_0 @ x @ v.T)),
        ),
        Step(
            "Its mean: E |A_0 x|^2 = r variance |x|^2 is channel-moments with the sample as probe.",
            Identity(gamma**2 * v_norm2 * channel("mean_q", dot=x_norm2), mean_square, "gamma^2 |v|^2 E |A_0 x|^2"),
        ),
        Step(
            "With gamma = alpha/sqrt(r) the mean square is free of r: it tends to what it is.",
            Limit(mean_square.subs(gamma, alpha / sp.sqrt(r)), alpha**2 * v_norm2 * variance * x_norm2, r),
        ),
        Step(
            "With gamma = alpha/r the mean square, times r, tends to a constant: the norm collapses as r^(-1/2).",
            Limit(r * mean_square.subs(gamma, alpha / r), alpha**2 * v_norm2 * variance * x_norm2, r),
        ),
        Step(
            "If and only if: the mean square is a constant times gamma^2 r, so bounds on one are bounds on the other ...",
            Inequality(
                sp.Equivalent(
                    sp.And(low <= mean_square, mean_square <= high), sp.And(low / constant <= gamma**2 * r, gamma**2 * r <= high / constant)
                ),
                (sp.Eq(constant, v_norm2 * variance * x_norm2), low <= high),
                (
                    ("exponent", sp.Equivalent(low <= mean_square, low / constant <= gamma * r)),
                    ("coefficient", low / constant <= gamma**2 * r),
                ),
            ),
        ),
        Step(
            "... which by theta-of-gamma are bounds on gamma sqrt(r) ...",
            Inequality(
                theta("rooted", low=low / constant, high=high / constant),
                (low <= gamma**2 * r * constant, gamma**2 * r * constant <= high),
                (
                    ("coefficient", theta("rooted", low=2 * low / constant, high=high / constant)),
                    ("exponent", theta("rooted", low=low / constant**2, high=high / constant**2)),
                ),
            ),
        ),
        Step(
            "... and the other way round.",
            Inequality(
                sp.And(low**2 * constant <= gamma**2 * r * constant, gamma**2 * r * constant <= high**2 * constant),
                (theta("squared"),),
                (
                    ("coefficient", 2 * low**2 * constant <= gamma**2 * r * constant),
                    ("exponent", gamma**2 * r * constant <= high * constant),
                ),
            ),
        ),
    ),
    remarks=(
        "No optimizer enters: the same power is seen under SGD and Adam, though their updates have different ones. A gradient norm that"
        " is stable in rank is no proof that the update is.",
        "After some steps dL/dA is no longer zero, and the norm has a second term.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
