"""Learning-rate exponents under sign steps: r^-(1-g) while A is near its init, r^-(1-g)/2 once it has moved far."""

import sympy as sp

from rsverify.proving import Cited, Identity, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, run_alone, taken, vector

r, gamma, lr, k, x_norm1, x_norm2, v_norm1, mean_abs, n, base, reach = sp.symbols(
    "r gamma lr k x_norm1 x_norm2 v_norm1 mean_abs n base reach", positive=True
)
g, q, s, u, h = sp.symbols("g q s u h", real=True)
A_0, x, v = matrix("A_0", "r", "i"), vector("x", "i"), vector("v", "o")
sign_u, sign_v, sign_x = vector("sign_u", "r"), vector("sign_v", "o"), vector("sign_x", "i")
half = sp.Rational(1, 2)

B, A = -(k * lr) * (sign_v @ sign_u.T), A_0 + ((k - 1) * lr) * (sign_u @ sign_x.T)  # after k steps
near, far = 1 - g + q, 1 - g + 2 * q  # the powers of r in gamma lr r and gamma lr^2 r, at gamma = r^-g, lr = r^q
sign = taken("sign-steps")
mean_u1 = sign("mean_q", dot=x_norm2, x_norm2=x_norm2)  # E |u|_1: the probe is the sample

lemma = Lemma(
    name="mua-learning-rates",
    statement=(
        "k sign steps on one sample give exactly gamma B_k A_k x = -gamma k lr sign(v) (|A_0 x|_1 + (k - 1) lr r |x|_1). With gamma ="
        " r^-g the first term"
        " (A near its init) asks for lr ~ r^-(1-g), the second (A moved far) for lr ~ r^-(1-g)/2; the second rules where the width"
        " grows first."
    ),
    assumptions=(
        "LoRA with B_0 = 0, A_0 random with E |u_k| = mean_abs free of r (variance 1/n and |x|^2 ~ n in the source)",
        "sign steps of both factors at one lr, no momentum, sign(0) = 0; the same sample x and a signal v of the same signs; no zeros"
        " in u, v, x",
    ),
    uses=("sign-steps",),
    source=(
        "Chen, Villar, Hayou 2026, arXiv 2602.06204 (abstract opened; its Corollary 4.4 for Init[A], eta = Theta(n^(-1/2)"
        " r^(-(1-g)/2)), through"
        " notes that quote it: the paper's text not seen)"
    ),
    steps=(
        Step(
            "A's gradient at B is gamma B'v x' = -gamma k lr |v|_1 sign(u) x', whose sign is -sign(u) sign(x)': A moves by +lr sign(u)"
            " sign(x)'.",
            MatrixIdentity((gamma * (B.T @ v @ x.T)).with_scalar(sign_v.T, v, v_norm1), -(gamma * k * lr * v_norm1) * (sign_u @ x.T)),
        ),
        Step(
            "A x = u + (k - 1) lr |x|_1 sign(u) ...",
            MatrixIdentity((A @ x).with_scalar(sign_x.T, x, x_norm1), A_0 @ x + ((k - 1) * lr * x_norm1) * sign_u),
        ),
        Step(
            "... keeps the signs of u, so B's gradient keeps its signs and B_k = -k lr sign(v) sign(u)'.",
            Inequality(
                s * (u + h * s) > 0,
                (sp.Eq(s**2, 1), s * u > 0, h >= 0),
                (("sign", s * (u - h * s) > 0), ("exponent", s**2 * (u + h * s) > 0), ("coefficient", s * (u - 2 * h * s) > 0)),
            ),
        ),
        Step(
            "The output, with sign(u)'u = |u|_1 and sign(u)'sign(u) = r.",
            MatrixIdentity(
                (gamma * (B @ A @ x)).with_scalar(sign_x.T, x, x_norm1).with_scalar(sign_u.T, sign_u, r),
                -(gamma * k * lr) * (sign_v @ (sign_u.T @ (A_0 @ x))) - (gamma * k * lr * (k - 1) * lr * x_norm1 * r) * sign_v,
            ),
        ),
        Step(
            "E |u|_1 = r mean_abs: sign-steps with the sample as probe.",
            Identity(mean_u1, r * mean_abs, "E sign(u)'u"),
        ),
        Step(
            "The first of the k steps is that of sign-steps.",
            MatrixIdentity((gamma * (B @ A @ x)).put({}, {k: sp.Integer(1)}), sign("output", {"x*": x})),
        ),
        Step(
            "Near: gamma lr r is free of r exactly at q = -(1 - g).",
            Inequality(
                sp.Equivalent(sp.Eq(near, 0), sp.Eq(q, -(1 - g))),
                (),
                (
                    ("sign", sp.Equivalent(sp.Eq(near, 0), sp.Eq(q, 1 - g))),
                    ("coefficient", sp.Equivalent(sp.Eq(near, 0), sp.Eq(q, -2 * (1 - g)))),
                ),
            ),
        ),
        Step(
            "Far: gamma lr^2 r is free of r exactly at q = -(1 - g)/2.",
            Inequality(
                sp.Equivalent(sp.Eq(far, 0), sp.Eq(q, -(1 - g) / 2)),
                (),
                (
                    ("exponent", sp.Equivalent(sp.Eq(1 - g + 3 * q, 0), sp.Eq(q, -(1 - g) / 2))),
                    ("coefficient", sp.Equivalent(sp.Eq(far, 0), sp.Eq(q, -(1 - g)))),
                ),
            ),
        ),
        Step(
            "At fixed width and g < 1 both terms together are of order one (the larger exponent is zero) exactly at the near value.",
            Inequality(
                sp.Equivalent(sp.And(near <= 0, far <= 0, sp.Or(sp.Eq(near, 0), sp.Eq(far, 0))), sp.Eq(q, -(1 - g))),
                (g < 1,),
                (
                    (
                        "coefficient",
                        sp.Equivalent(sp.And(near <= 0, far <= 0, sp.Or(sp.Eq(near, 0), sp.Eq(far, 0))), sp.Eq(q, -(1 - g) / 2)),
                    ),
                ),
            ),
        ),
        Step(
            "At g = 1, the usual alpha/r, both give an lr that is free of r.",
            Inequality(
                sp.And(sp.Implies(sp.Eq(near, 0), sp.Eq(q, 0)), sp.Implies(sp.Eq(far, 0), sp.Eq(q, 0))),
                (sp.Eq(g, 1),),
                (("coefficient", sp.Implies(sp.Eq(near, 0), sp.Eq(q, -half))), ("sign", sp.Implies(sp.Eq(far, 0), sp.Ne(q, 0)))),
            ),
        ),
        Step(
            "Width first: with |x|_1 = base n and lr = (n r gamma)^(-1/2) = 1/reach, the second term is free of n, r and gamma ...",
            Identity(
                (gamma * k * lr * (k - 1) * lr * r * x_norm1).subs(x_norm1, base * n).subs(lr, 1 / reach).subs(n, reach**2 / (r * gamma)),
                k * (k - 1) * base,
                "gamma k (k - 1) lr^2 r |x|_1 at lr^2 = 1/(n r gamma)",
            ),
        ),
        Step(
            "... and the first vanishes as the width grows at a given rank.",
            Limit(gamma * k * (1 / sp.sqrt(n)) * base * mean_u1, sp.Integer(0), n, "gamma k lr r mean_abs at lr = base/sqrt(n)"),
        ),
        Step(
            "Where they cross: the second is the larger once (k - 1) lr |x|_1 passes mean_abs, that is once A x has moved by more than"
            " its size.",
            Inequality(
                sp.Equivalent(gamma * k * lr * (k - 1) * lr * r * x_norm1 >= gamma * k * lr * mean_u1, (k - 1) * lr * x_norm1 >= mean_abs),
                (k > 1,),
                (
                    (
                        "coefficient",
                        sp.Equivalent(
                            gamma * k * lr * (k - 1) * lr * r * x_norm1 >= gamma * k * lr * mean_u1,
                            2 * (k - 1) * lr * x_norm1 >= mean_abs,
                        ),
                    ),
                    (
                        "exponent",
                        sp.Equivalent(
                            gamma * k * lr * (k - 1) * lr * r * x_norm1 >= gamma * k * lr * mean_u1,
                            (k - 1) * lr**2 * x_norm1 >= mean_abs,
                        ),
                    ),
                ),
            ),
        ),
        Step(
            "What the source states for A random and B zero.",
            Cited(
                "eta = Theta(n^(-1/2) r^(-(1-g)/2)): r^(-1/2), r^(-1/4), r^0 for g = 0, 1/2, 1",
                "arXiv 2602.06204, Corollary 4.4, through notes that quote it",
                seen=False,
            ),
        ),
    ),
    remarks=(
        "The two exponents are two regimes, not two opinions: at a given width the rank grows out of the far regime, since lr falls and"
        " A moves less.",
        "Equal signs at every step are an idealisation; with signs that vary the second term grows slower in k, with the same power of r.",
        "The source's other init (B random, A zero) is not treated here.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
