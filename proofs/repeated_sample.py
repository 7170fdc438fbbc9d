"""The closed form for one sample trained k times with one signal: exact on every path, for every rank."""

import sympy as sp

from rsverify.proving import Identity, Induction, Inequality, Lemma, Limit, MatrixIdentity, Step, eye, matrix, run_alone, taken, vector

r, gamma, alpha, lr, x_norm, v_norm, t, variance, k = sp.symbols("r gamma alpha lr x_norm v_norm t variance k", positive=True)
a, b, h, u_norm2 = sp.symbols("a b h u_norm2", positive=True)
P, M = sp.symbols("P M", positive=True)  # (1 + t)^k and (1 - t)^k
P2, M2 = sp.symbols("P2 M2", real=True)  # their squares
A_0, x, v = matrix("A_0", "r", "i"), vector("x", "i"), vector("v", "o")
u = A_0 @ x
sgd, channel, limit = taken("sgd-keeps-the-form"), taken("channel-moments"), taken("full-finetuning-limit")

START, STEP = {P: sp.Integer(1), M: sp.Integer(1)}, {P: P * (1 + t), M: M * (1 - t)}
form = {"Q": -b * (v @ x.T), "M": eye("i") + h * (x @ x.T)}  # that form in the coordinates of A_0
bracket = (P**2 - M**2) / (4 * v_norm * x_norm)

lemma = Lemma(
    name="repeated-sample",
    statement=(
        "Trained k times by SGD on a sample x with signal v, gamma B_k A_k x = -gamma v |A_0 x|^2 ((1 + t)^(2k) - (1 - t)^(2k)) / (4"
        " |v| |x|)"
        " with t = lr gamma |v| |x|, on every path and at every rank."
    ),
    assumptions=("LoRA with B_0 = 0, plain SGD at a fixed lr; the same x and the same v at each step (a loss linear in the output)",),
    uses=("sgd-keeps-the-form", "channel-moments", "full-finetuning-limit"),
    source="own; rank enters through gamma and |A_0 x|^2 alone",
    steps=(
        Step(
            "The forms B = -b v (A_0 x)' and A = A_0 + h (A_0 x) x' are kept by B's step: b grows by lr gamma (1 + h |x|^2).",
            MatrixIdentity(
                sgd("next_B", form, decay=0).with_scalar(x.T, x, x_norm**2), -(b + lr * gamma * (1 + h * x_norm**2)) * (v @ u.T)
            ),
        ),
        Step(
            "And by A's step: h grows by lr gamma b |v|^2.",
            MatrixIdentity(sgd("next_A", form, decay=0).with_scalar(v.T, v, v_norm**2), A_0 + (h + lr * gamma * b * v_norm**2) * (u @ x.T)),
        ),
        Step(
            "With a = 1 + h |x|^2 and beta = b |v| |x| these are a <- a + t beta ...",
            Identity(
                1 + (h + lr * gamma * b * v_norm**2) * x_norm**2,
                (1 + h * x_norm**2) + (lr * gamma * v_norm * x_norm) * (b * v_norm * x_norm),
            ),
        ),
        Step(
            "... and beta <- beta + t a.",
            Identity((b + lr * gamma * a) * v_norm * x_norm, b * v_norm * x_norm + (lr * gamma * v_norm * x_norm) * a),
        ),
        Step(
            "So a = (P + M)/2 with P = (1 + t)^k, M = (1 - t)^k.",
            Induction((P + M) / 2, START, STEP, sp.Integer(1), lambda before: before + t * (P - M) / 2, "a"),
        ),
        Step("And beta = (P - M)/2.", Induction((P - M) / 2, START, STEP, sp.Integer(0), lambda before: before + t * (P + M) / 2, "beta")),
        Step(
            "The output gamma B A x = -gamma v |A_0 x|^2 a b is the closed form.",
            Identity(
                -gamma * u_norm2 * (P + M) / 2 * ((P - M) / 2 / (v_norm * x_norm)),
                -gamma * u_norm2 * (P - M) * (P + M) / (4 * v_norm * x_norm),
            ),
        ),
        Step(
            "One step is -gamma^2 lr v |A_0 x|^2.",
            Identity(
                (-gamma * u_norm2 * bracket).subs({P: 1 + t, M: 1 - t}).subs(t, lr * gamma * v_norm * x_norm), -(gamma**2) * lr * u_norm2
            ),
        ),
        Step(
            "Two steps: twice that, and more by the factor 1 + t^2.",
            Identity(((P**2 - M**2) / 4).subs({P: (1 + t) ** 2, M: (1 - t) ** 2}), 2 * t * (1 + t**2)),
        ),
        Step(
            "k steps reach at least k times the first for t <= 1: if P^2 - M^2 >= 4 k t and P^2 + M^2 >= 2, one more step keeps both.",
            Inequality(
                sp.And(P2 * (1 + t) ** 2 - M2 * (1 - t) ** 2 >= 4 * (k + 1) * t, P2 * (1 + t) ** 2 + M2 * (1 - t) ** 2 >= 2),
                (t <= 1, 4 * k * t <= P2 - M2, P2 + M2 >= 2),
                (
                    ("coefficient", P2 * (1 + t) ** 2 - M2 * (1 - t) ** 2 >= 5 * (k + 1) * t),
                    ("sign", P2 * (1 - t) ** 2 - M2 * (1 + t) ** 2 >= 4 * (k + 1) * t),
                    ("exponent", P2 * (1 + t) - M2 * (1 - t) >= 4 * (k + 1) * t),
                ),
            ),
        ),
        Step(
            "As r grows under alpha/sqrt(r), with E |A_0 x|^2 = r variance |x|^2, three steps tend to three steps of full fine-tuning"
            " at lr alpha^2 variance.",
            Limit(
                (gamma * channel("mean_q", dot=x_norm**2) * bracket)
                .subs({P: (1 + t) ** 3, M: (1 - t) ** 3})
                .subs(t, lr * gamma * v_norm * x_norm)
                .subs(gamma, alpha / sp.sqrt(r)),
                3 * limit("effective") * x_norm**2,
                r,
                "gamma r variance |x|^2 ((1 + t)^6 - (1 - t)^6)/(4 |v| |x|)",
            ),
        ),
        Step(
            "Under alpha/r they tend to nothing.",
            Limit(
                (gamma * channel("mean_q", dot=x_norm**2) * bracket)
                .subs({P: (1 + t) ** 3, M: (1 - t) ** 3})
                .subs(t, lr * gamma * v_norm * x_norm)
                .subs(gamma, alpha / r),
                sp.Integer(0),
                r,
                "the same at gamma = alpha/r",
            ),
        ),
    ),
    remarks=(
        "For t < 1 the growth in k is exponential, (1 + t)^(2k): a product of two trained factors feeds itself. Under alpha/sqrt(r) t"
        " falls as"
        " r^(-1/2), and the growth becomes linear in k.",
        "Any signal that changes with the output breaks the closed form, not the form of B and A.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
