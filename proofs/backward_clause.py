"""The theorem's second condition, after one step of SGD: the gradient passed to the input is of order one exactly when gamma^2 r is."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, run_alone, taken, vector

r, gamma, alpha, lr, variance, fourth, x_norm2, d, overlap = sp.symbols("r gamma alpha lr variance fourth x_norm2 d overlap", positive=True)
size, low, high = sp.symbols("size low high", positive=True)
spread = sp.Symbol("spread", nonnegative=True)
A_0, B, x, signal, probe = matrix("A_0", "r", "i"), matrix("B", "o", "r"), vector("x", "i"), vector("v", "o"), vector("v*", "o")

sgd, gram, theta = taken("sgd-keeps-the-form"), taken("gram-moments"), taken("theta-of-gamma")
square_S, mean_S = gram("square"), gram("mean_S", dot=1)  # E |S x|^2, and E S over the identity
mean_g = -(gamma**2) * lr * overlap * mean_S  # E g = mean_g x
square_g = (gamma**2 * lr * overlap) ** 2 * square_S
excess = fourth / variance**2 + d - 2

lemma = Lemma(
    name="backward-clause",
    statement=(
        "After one SGD step the adapter passes the gradient g = -gamma^2 lr (v.v*) A_0'A_0 x to its input, for a signal v* at its output:"
        " E g = -gamma^2 r lr (v.v*) variance x and E |g|^2 = (gamma^2 lr v.v*)^2 r |x|^2 ((r + d - 2) variance^2 + fourth),"
        " of order one exactly when gamma^2 r is."
    ),
    assumptions=(
        "LoRA with B_0 = 0 and independent centred entries of A_0 whose moments are free of r; sample x and signals v, v* given, v.v*"
        " not zero",
        "r grows at given width d",
    ),
    uses=("sgd-keeps-the-form", "gram-moments", "theta-of-gamma"),
    source="Kalajdzievski 2023, arXiv 2312.03732, Theorem 3.2, Definition 3.1 (condition 2), quoted in notes; the paper not seen",
    steps=(
        Step(
            "The gradient by the input is gamma A'B'v*, with B after its first step.",
            MatrixIdentity(
                (gamma * (A_0.T @ B.T @ probe)).where("B", -lr * (gamma * (signal @ (A_0 @ x).T))).with_scalar(signal.T, probe, overlap),
                sgd("first_input_gradient", S=A_0.T @ A_0).with_scalar(signal.T, probe, overlap),
            ),
        ),
        Step(
            "Its mean: E S = r variance I.",
            Identity(mean_g, -(gamma**2) * r * lr * overlap * variance, "-gamma^2 lr (v.v*) E S"),
            "mean",
        ),
        Step(
            "Its mean square over that of its mean is 1 + (fourth/variance^2 + d - 2)/r: for normal A, 1 + (d + 1)/r.",
            Identity(
                square_g / mean_g**2 / x_norm2,
                1 + excess / r,
                "E |g|^2 / |E g|^2",
            ),
        ),
        Step(
            "The mean square in full.",
            Identity(square_g, (gamma**2 * lr * overlap) ** 2 * r * x_norm2 * ((r + d - 2) * variance**2 + fourth), "E |g|^2"),
            "square",
        ),
        Step(
            "The spread fourth/variance^2 + d - 2 is the mean of a square (fourth - variance^2, gram-moments) over variance^2, and d - 1.",
            Identity(gram("kurtosis") / variance**2 + (d - 1), excess, "(fourth - variance^2)/variance^2 + d - 1"),
        ),
        Step(
            "So it is not negative, and zero only for one input and entries of one size.",
            Inequality(
                sp.And(excess >= 0, sp.Implies(sp.Eq(excess, 0), sp.And(sp.Eq(d, 1), sp.Eq(fourth, variance**2)))),
                (fourth >= variance**2, d >= 1),
                (
                    ("coefficient", excess >= d),
                    ("sign", fourth / variance**2 - d >= 0),
                    ("exponent", fourth / variance**2 + d - 2 >= (d - 1) ** 2),
                ),
            ),
        ),
        Step(
            "So under alpha/sqrt(r) it tends to a constant.",
            Limit(
                square_g.subs(gamma, alpha / sp.sqrt(r)),
                alpha**4 * lr**2 * overlap**2 * variance**2 * x_norm2,
                r,
                "E |g|^2 at gamma = alpha/sqrt(r)",
            ),
        ),
        Step(
            "If: with low <= gamma sqrt(r) <= high, theta-of-gamma bounds gamma^2 r; with |E g| = size gamma^2 r, E |g|^2 then has bounds"
            " free of r.",
            Inequality(
                sp.And(
                    low**4 * size**2 <= (gamma**2 * r * size) ** 2 * (1 + spread / r),
                    (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high**4 * size**2 * (1 + spread),
                ),
                (theta("squared"), r >= 1),
                (
                    ("sign", low**4 * size**2 <= (gamma**2 * r * size) ** 2 * (1 - spread / r)),
                    ("exponent", (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high**4 * size * (1 + spread)),
                ),
            ),
        ),
        Step(
            "Only if: bounds on the mean square, which is at least the square of the mean and at most 1 + spread times it, bound"
            " gamma^2 r.",
            Inequality(
                sp.And(low <= (gamma**2 * r) ** 2 * size**2 * (1 + spread), (gamma**2 * r) ** 2 * size**2 <= high),
                (
                    low <= (gamma**2 * r * size) ** 2 * (1 + spread / r),
                    (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high,
                    r >= 1,
                ),
                (("sign", low <= (gamma**2 * r) ** 2 * size**2 * (1 - spread)), ("coefficient", 2 * (gamma**2 * r) ** 2 * size**2 <= high)),
            ),
        ),
        Step(
            "So do bounds on the length of the mean, by theta-of-gamma.",
            Inequality(
                theta("rooted", low=low / size, high=high / size),
                (low <= gamma**2 * r * size, gamma**2 * r * size <= high),
                (
                    ("exponent", theta("rooted", low=low / size**2, high=high / size**2)),
                    ("coefficient", theta("rooted", low=2 * low / size, high=high / size)),
                ),
            ),
        ),
        Step(
            "Width first is another regime: at given r, E |g|^2 / d tends to gamma^4 r, so there the stable rule is alpha r^(-1/4).",
            Limit(square_g / d, gamma**4 * lr**2 * overlap**2 * variance**2 * x_norm2 * r, d, "E |g|^2 / d as d grows"),
        ),
    ),
    remarks=(
        "At r = 64 and d = 4096 the term of the mean is one part in 65 of the mean square: real adapters live between the two regimes.",
        "The component of g along x is the forward clause with v and x exchanged, and has no d in it.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
