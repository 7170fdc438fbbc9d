"""The limit of large rank under SGD: LoRA with alpha/sqrt(r) becomes full fine-tuning at lr alpha^2 variance, at the rate r^(-1/2)."""

import sympy as sp

from rsverify.proving import (
    Identity,
    Induction,
    Inequality,
    Lemma,
    Limit,
    MatrixIdentity,
    Step,
    eye,
    matrix,
    run_alone,
    symmetric,
    taken,
    vector,
)

r, gamma, alpha, lr, variance, fourth, d, d_one, d_two, eta, x_norm2, v_norm2 = sp.symbols(
    "r gamma alpha lr variance fourth d d_one d_two eta x_norm2 v_norm2", positive=True
)
a, b, P, c = sp.symbols("a b P c", positive=True)
x, v = vector("x", "i"), vector("v", "o")
G, R, T, E, W = matrix("G", "o", "i"), matrix("R", "o", "i"), matrix("T", "i", "i"), symmetric("E", "i"), matrix("W", "o", "i")
I = eye("i")

Q_over_gamma, M = -lr * G + eta * R, I + eta * T  # k-steps, with eta = gamma^2
mean_S = variance * I + E  # S/r
sgd, k_steps, gram = taken("sgd-keeps-the-form"), taken("k-steps"), taken("gram-moments")
leading = k_steps("leading", size=1)  # what multiplies G in the mean output: -gamma^2 r variance lr
effective = alpha**2 * variance * lr
F, momentum = matrix("F", "o", "i"), sp.Symbol("momentum", positive=True)
apart = gram("apart") / r**2  # E |(S/r - variance I) x|^2
one_step = (lr * alpha**2) ** 2 * v_norm2 * apart  # mean squared distance of the two steps
full_step = effective**2 * v_norm2 * x_norm2

lemma = Lemma(
    name="full-finetuning-limit",
    statement=(
        "Under SGD with gamma = alpha/sqrt(r), S/r = A_0'A_0/r tends to variance I and gamma B_k A_k to -alpha^2 variance lr G, with G"
        " the sum of v_j x_j': full fine-tuning with learning rate alpha^2 variance lr, module by module. The distance falls as"
        " r^(-1/2), no faster from two inputs on. With alpha/r there is no training at all."
    ),
    assumptions=(
        "LoRA with B_0 = 0 and independent centred entries of A_0, of a variance and a fourth moment free of r",
        "SGD at a fixed lr, plain or with heavy-ball momentum, for a fixed number k of steps",
        "steps 1 to 9: signals given; steps 10 and 11: the signal is a Lipschitz function of the weight, as for smooth losses",
    ),
    uses=("sgd-keeps-the-form", "k-steps", "gram-moments"),
    source="own; the moments are those of Wishart matrices",
    steps=(
        Step(
            "Full fine-tuning at lr_eff keeps W_k - W = -lr_eff G, G the sum of its buffers F <- momentum F + v x'.",
            MatrixIdentity((W - effective * G) - effective * (momentum * F + v @ x.T), W - effective * (G + (momentum * F + v @ x.T))),
        ),
        Step(
            "LoRA's weight gamma Q S M at gamma^2 r = alpha^2, S = r (variance I + E), is that same -alpha^2 variance lr G, a term"
            " linear in E, and terms with eta = gamma^2 = alpha^2/r.",
            MatrixIdentity(
                sgd("output", {"Q": gamma * Q_over_gamma, "M": M, "S": r * mean_S, "x*": x}),
                (gamma**2 * r) * (-(variance * lr) * G - lr * (G @ E) + eta * (R @ mean_S @ M - lr * (G @ mean_S @ T))) @ x,
            ),
        ),
        Step(
            "The mean square of E = S/r - variance I, times r, tends to a constant: E is of order r^(-1/2).",
            Limit(r * d * apart.subs(x_norm2, 1), d * (fourth + (d - 2) * variance**2), r, "r E |S/r - variance I|^2"),
        ),
        Step(
            "The terms with eta are of order 1/r: behind E.",
            Limit(sp.sqrt(r) * (alpha**2 / r) * c, sp.Integer(0), r, "sqrt(r) (alpha^2/r) c"),
        ),
        Step(
            "So a weight moves at lr_eff = alpha^2 variance lr; for any other rule at gamma^2 r variance lr, which under alpha/r tends"
            " to zero.",
            Limit(leading.subs(gamma, alpha / r), sp.Integer(0), r, "-gamma^2 r variance lr at gamma = alpha/r"),
        ),
        Step(
            "Under alpha/sqrt(r) it is -lr_eff at every rank.",
            Limit(-leading.subs(gamma, alpha / sp.sqrt(r)), effective, r, "gamma^2 r variance lr at gamma = alpha/sqrt(r)"),
            "effective",
        ),
        Step(
            "One step exactly: the mean squared distance over the squared full step is (fourth/variance^2 + d - 2)/r; for normal A, (d"
            " + 1)/r.",
            Identity(one_step / full_step, (fourth / variance**2 + d - 2) / r, "E |LoRA step - full step|^2 / |full step|^2"),
        ),
        Step(
            "For normal A.",
            Identity((one_step / full_step).subs(fourth, 3 * variance**2), (d + 1) / r, "the same at fourth = 3 variance^2"),
        ),
        Step(
            "So the relative root mean square is r^(-1/2) times a number that is not zero for d >= 2, as fourth >= variance^2.",
            Inequality(
                (fourth / variance**2 + d - 2) / r >= (d - 1) / r,
                (fourth >= variance**2, d >= 2),
                (
                    ("coefficient", (fourth / variance**2 + d - 2) / r >= d / r),
                    ("sign", (fourth / variance**2 - d + 2) / r >= (d - 1) / r),
                    ("exponent", (fourth / variance**2 + d - 2) / r >= (d - 1) ** 2 / r),
                ),
            ),
        ),
        Step(
            "With feedback through the signals the distance obeys e <- (1 + a) e + b, a = lr times a Lipschitz constant and b ="
            " c/sqrt(r) from steps 3 and 4; so e = b (P - 1)/a after k steps, P = (1 + a)^k.",
            Induction(b * (P - 1) / a, {P: sp.Integer(1)}, {P: P * (1 + a)}, sp.Integer(0), lambda before: (1 + a) * before + b, "e"),
        ),
        Step(
            "And k being fixed, that is c (P - 1)/a r^(-1/2).",
            Limit(sp.sqrt(r) * (b * (P - 1) / a).subs(b, c / sp.sqrt(r)), c * (P - 1) / a, r, "sqrt(r) e at b = c/sqrt(r)"),
        ),
        Step(
            "Kaiming's init (uniform with bound 1/sqrt(d), variance bound^2/3) gives a module of d inputs lr_eff = alpha^2 lr/(3 d).",
            Identity(effective.subs(variance, (1 / d) / 3), alpha**2 * lr / (3 * d), "alpha^2 (bound^2/3) lr at bound^2 = 1/d"),
        ),
        Step(
            "Two modules differ by the inverse ratio of their inputs.",
            Identity(
                effective.subs(variance, (1 / d_one) / 3) / effective.subs(variance, (1 / d_two) / 3),
                d_two / d_one,
                "lr_eff of one over that of the other",
            ),
        ),
    ),
    remarks=(
        "Only the rule's power and the init's variance enter: LoRA at large rank is full fine-tuning with learning rates that nobody"
        " chose, smaller"
        " by fan-in; a uniform full fine-tuning would need A's variance alike in all modules.",
        "The fluctuation is (d + 1)/r in mean square over the whole matrix but 2/r along x itself: a scalar probe sees the limit long"
        " before the matrix does.",
        "Adam's steps have no such limit in A_0's Gram matrix (sign-steps); weight decay shrinks B and A, that is B A twice.",
        "With several modules the Lipschitz constant is that of all their weights together, and lr_eff that of each module.",
        "Ranks above min(d_in, d_out) are what this limit is about: there the function class no longer grows.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
