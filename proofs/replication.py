"""Replication: a rank channel copied c times, with gamma divided by c, is the same channel on the whole path of training."""

import sympy as sp

from rsverify.proving import Identity, Induction, Inequality, Lemma, MatrixIdentity, Step, eye, matrix, run_alone, symmetric, vector

c, root, gamma, lr, momentum, decay, alpha, r, beta, eps, lr_wide, norm, bound = sp.symbols(
    "c root gamma lr momentum decay alpha r beta eps lr_wide norm bound", positive=True
)
power, s, square = sp.symbols("power s square", positive=True)
m, g = sp.symbols("m g", real=True)
x, v = vector("x", "i"), vector("v", "o")
B, A, P = matrix("B", "o", "r"), matrix("A", "r", "i"), matrix("P", "o", "r")
G, D, K, M = matrix("G", "o", "r"), matrix("D", "o", "r"), symmetric("K", "o"), matrix("M", "o", "o")
C = matrix("C", "r", "R")  # copies: row k has ones at the c copies of channel k, so that C C' = c I
I = eye("r")
B_wide, A_wide, gamma_wide = B @ C, C.T @ A, gamma / c

gradient_B, gradient_A = gamma * (v @ (A @ x).T), gamma * (B.T @ v @ x.T)
gradient_B_wide, gradient_A_wide = gamma_wide * (v @ (A_wide @ x).T), gamma_wide * (B_wide.T @ v @ x.T)
wide = (1 / c) * (G @ C)  # the gradient of the wide factor, of which G is the narrow one

lemma = Lemma(
    name="replication",
    statement=(
        "Copy each rank channel c times and divide gamma by c: the added weight is the same, and so is its whole path, for any"
        " differentiable loss, any horizon, any batches and any start, if the learning rate is multiplied by c (SGD, momentum), left alone"
        " (Adam, AdamW, RMSprop, Adagrad, Lion, signSGD, at epsilon 0; Adafactor) or multiplied by sqrt(c) (polar-factor Muon, SGD"
        " normalized by its norm). Decay decoupled from the gradient goes as the inverse of that factor, decay added to it as 1/c, a bound"
        " on the gradient's norm as c^(-1/2), epsilon as 1/c. For every multilinear adapter with one rank axis that all trained factors"
        " carry; with several rank axes copied c times each, gamma goes as c^-axes and each c above is c^k, k the number of them that each"
        " trained factor carries."
    ),
    assumptions=(
        "the adapter is a sum over its rank axis of products of its factors, times gamma; frozen factors carry the rank axis (and are"
        " copied) or do not",
        "the loss sees the adapter through the added weight alone; its gradient exists on the path",
        "steps are exact; where an adaptive step is 0/0 it is 0",
    ),
    uses=(),
    source="own",
    steps=(
        Step(
            "Copies: C C' = c I, so the added weight is the same.",
            MatrixIdentity((gamma_wide * (B_wide @ A_wide)).with_multiple(C, C.T, c), gamma * (B @ A)),
            "weight",
        ),
        Step(
            "Hence the signal v is, too. B's gradient is that of the narrow B, copied, over c ...",
            MatrixIdentity(gradient_B_wide, (1 / c) * (gradient_B @ C)),
            "gradient_B",
        ),
        Step("... and A's that of the narrow A.", MatrixIdentity(gradient_A_wide, (1 / c) * (C.T @ gradient_A)), "gradient_A"),
        Step(
            "Any multilinear adapter: an axis that a factor carries is not summed over in its gradient and leaves 1/c of gamma, one that it"
            " does not carry is summed over c times and leaves 1. After k axes carried the gradient is over power = c^k.",
            Induction(1 / power, {power: sp.Integer(1)}, {power: power * c}, sp.Integer(1), lambda before: before * (1 / c), "scale"),
        ),
        Step("And an axis that it does not carry leaves it alone.", Identity((1 / c) * c / power, 1 / power, "(1/c) c scale")),
        Step(
            "Momentum and decay added to the gradient: the buffer is the narrow one, copied, over c, if the decay is over c.",
            MatrixIdentity(momentum * ((1 / c) * (P @ C)) + wide + (decay / c) * B_wide, (1 / c) * ((momentum * P + G + decay * B) @ C)),
        ),
        Step(
            "A step along it at c times the learning rate is the narrow step, copied: SGD and momentum.",
            MatrixIdentity(B_wide - (c * lr) * ((1 / c) * (P @ C)), (B - lr * P) @ C),
            "sgd",
        ),
        Step(
            "Adam's first moment is linear in the gradient: it is over c, too.",
            Identity(beta * (m / c) + (1 - beta) * (g / c), (beta * m + (1 - beta) * g) / c, "beta m/c + (1 - beta) g/c"),
        ),
        Step(
            "Its second moment (Adagrad's sum, RMSprop's mean) is over c^2.",
            Identity(
                beta * (square / c**2) + (1 - beta) * (g / c) ** 2,
                (beta * square + (1 - beta) * g**2) / c**2,
                "beta s/c^2 + (1 - beta) (g/c)^2",
            ),
        ),
        Step(
            "So the quotient m/sqrt(s), whose square is below, is that of the narrow entry: the same step at the same learning rate.",
            Identity((m / c) ** 2 / (square / c**2), m**2 / square, "(m/c)^2 / (s/c^2)"),
            "adam",
        ),
        Step(
            "An epsilon beside the root breaks it, unless it is over c, too.",
            Identity((m / c) / (norm / c + eps / c), m / (norm + eps), "(m/c)/(norm/c + eps/c)"),
        ),
        Step(
            "Signs (signSGD, and Lion of its linear moment) do not see a positive factor.",
            Inequality(
                sp.Equivalent(g * m > 0, (g / c) * m > 0),
                (),
                (
                    ("sign", sp.Equivalent(g * m > 0, -(g / c) * m > 0)),
                    ("coefficient", sp.Equivalent(g * m > 1, (g / c) * m > 1)),
                    ("exponent", sp.Equivalent(g**2 * m > 1, (g / c) * m > 1)),
                ),
            ),
        ),
        Step(
            "Adafactor: over the copied axis a mean stays, so R and C are over c^2, and with them R C / mean(R); rms(u) and rms(w) stay.",
            Identity((m / c**2) * (s / c**2) / (square / c**2), m * s / square / c**2, "(R/c^2)(C/c^2)/(mean(R)/c^2)"),
        ),
        Step(
            "Muon: with G = K D, K = (G G')^(1/2) and D the polar factor, the wide gradient is (K/root) (D C/root), root^2 = c ...",
            MatrixIdentity(((1 / root) * K) @ ((1 / root) * (D @ C)), (1 / root**2) * (K @ D @ C)),
        ),
        Step(
            "... K/root is the root of its Gram matrix ...",
            MatrixIdentity(
                ((1 / root**2) * (G @ C) @ ((1 / root**2) * (G @ C)).T).with_multiple(C, C.T, root**2), (1 / root**2) * (G @ G.T)
            ),
        ),
        Step(
            "... and D C/root has the Gram matrix of D: by uniqueness it is the wide polar factor.",
            MatrixIdentity(((1 / root) * (D @ C) @ ((1 / root) * (D @ C)).T).with_multiple(C, C.T, root**2), D @ D.T),
        ),
        Step(
            "So at root = sqrt(c) times the learning rate the step is the narrow one, copied.",
            MatrixIdentity(B_wide - (root * lr) * ((1 / root) * (D @ C)), (B - lr * D) @ C),
            "muon",
        ),
        Step(
            "The squared norm of the wide gradient, the trace of this, is that of the narrow one over c ...",
            MatrixIdentity((wide @ wide.T).with_multiple(C, C.T, c), (1 / c) * (G @ G.T)),
            "norm",
        ),
        Step(
            "... so g/|g| is over sqrt(c): SGD normalized by its norm has Muon's factor; and a bound on the norm that is over root ="
            " sqrt(c) leaves the clipped gradient, bound g/|g|, over c as the unclipped one is.",
            Identity((bound / root) * (g / root**2) / (norm / root), bound * g / norm / root**2, "(bound/root)(g/root^2)/(norm/root)"),
        ),
        Step(
            "Decoupled decay keeps lr decay where it goes as the inverse of the learning rate.",
            Identity(1 - lr_wide * (decay * lr / lr_wide), 1 - lr * decay, "1 - lr_wide (decay lr/lr_wide)"),
        ),
        Step(
            "Where it fails: a trained factor M without the rank axis has the same gradient in both, so that SGD at c times the rate moves"
            " it c times too far (and Muon sqrt(c) times). Steps that see no scale (Adam to Adafactor above) keep the path.",
            MatrixIdentity((gamma_wide * (v @ (B_wide @ A_wide @ x).T)).with_multiple(C, C.T, c), gamma * (v @ (B @ A @ x).T)),
            "without_rank_axis",
        ),
        Step(
            "Corollary: the rule alpha/r divides gamma by c as the rank is multiplied by c. So with alpha/r and lr ~ r^q, q = 1, 0 or 1/2,"
            " a run at rank c r differs from one at rank r only in that its channels are drawn one by one, not copied.",
            Identity(alpha / (c * r), (alpha / r) / c, "gamma at rank c r"),
        ),
        Step(
            "And alpha/sqrt(r) is the rule alpha'/r with alpha' = alpha root, root = sqrt(r): to change the rank under it is to change"
            " alpha under alpha/r.",
            Identity((alpha * root) / root**2, alpha / root, "alpha'/r at r = root^2"),
        ),
    ),
    remarks=(
        "In words: under alpha/r with lr ~ r^q a run of a wide adapter is, in the limit of many channels, that of a narrow one; the rank"
        " only says how finely the rows of A sample their law. So for LoRA with random A the best rate is r^q f(gamma r).",
        "Copies stay copies: the wide factor never leaves the form B C, C'A. A wide adapter drawn afresh is not a copy, and agrees with a"
        " narrow one up to what sampling of channels leaves, of order r^(-1/2).",
        "It fails under SGD, momentum, normalized SGD, a bound on the norm and Muon for VeRA (b and d: b has no rank axis), LoKr (w1), and"
        " DoRA's magnitude, whose gradients do not shrink (a learning rate of their own, left alone, mends SGD and momentum); for"
        " torch's Muon, whose factor sqrt(max(1, rows/columns)) follows the shape; for MiSS and others in which the rank sets the size of"
        " an axis, where more rank is another weight, not more channels; for orthonormal rows, which copies are not.",
        "LoHa has two rank axes and every factor carries one: gamma goes as c^-2, SGD's rate as c. LoRA-XS trains one factor with both:"
        " gamma as c^-2, SGD's rate as c^2.",
        "Dropout between A and B draws channels apart and breaks the copies.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
