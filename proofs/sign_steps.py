"""The counterpart for Adam: one sign-like step moves the output by gamma lr r, not gamma^2 lr r."""

import sympy as sp

from rsverify.proving import Identity, Induction, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, mean, run_alone, taken, vector

r, gamma, alpha, lr, variance, x_norm2, probe_norm2, root, pi = sp.symbols(
    "r gamma alpha lr variance x_norm2 probe_norm2 root pi", positive=True
)
mean_abs, eps, beta, base, fourth, scale = sp.symbols("mean_abs eps beta base fourth scale", positive=True)
dot, g, u, w = sp.symbols("dot g u w", real=True)
s, q, p, s_u, s_v = sp.symbols("s q p s_u s_v", real=True)
A_0, B, probe = matrix("A_0", "r", "i"), matrix("B", "o", "r"), vector("x*", "i")
sign_u, sign_v = vector("sign_u", "r"), vector("sign_v", "o")
ZERO, half = sp.Integer(0), sp.Rational(1, 2)

along = dot / x_norm2  # u* = along u + w, with w independent of u for normal A
channel = taken("channel-moments")
u_norm2, u_probe2, covariance = (channel("mean_one", dot=value) for value in (x_norm2, probe_norm2, dot))  # E u^2, E u*^2, E u u*
of_w = {(1,): ZERO, (2,): u_probe2 - along**2 * u_norm2}
of_u = {(1,): ZERO, (2,): u_norm2}
of_su = {(1, 0): ZERO, (1, 1): mean_abs}  # s = sign(u)
mean_q = r * along * mean_abs
square_q = r * variance * probe_norm2 + r * (r - 1) * along**2 * mean_abs**2
square_y = gamma**2 * lr**2 * square_q


lemma = Lemma(
    name="sign-steps",
    statement=(
        "One sign step (Adam's, Lion's, signSGD's first) moves an output entry to -gamma lr sign(v) q, q = sum over channels of"
        " sign(u_k) u*_k, with"
        " E q = r (x.x*/|x|^2) E|u|, for normal A E|u| = sqrt(2 variance/pi) |x|: of order gamma lr r. At a fixed lr the stable rule is"
        " 1/r;"
        " alpha/sqrt(r) grows as sqrt(r) unless lr falls as r^(-1/2)."
    ),
    assumptions=(
        "LoRA with B_0 = 0 and A_0 of independent centred normal entries (the constant, steps 4 to 7); for the order, any"
        " law with a fourth moment (steps 14 to 16)",
        "one sample x with signal v without zeros; epsilon 0 where not said",
    ),
    uses=("channel-moments",),
    source="own; the factor E[sign(u) u*] is the classical one behind the arcsine law",
    steps=(
        Step(
            "Adam's first step: with bias correction the moments are g and g^2, so g/(sqrt(g^2) + eps) has size one at eps = 0.",
            Identity(
                ((1 - beta) * g / (1 - beta)) ** 2 / ((1 - beta) * g**2 / (1 - beta)),
                sp.Integer(1),
                "((1 - beta) g/(1 - beta))^2 / ((1 - beta) g^2/(1 - beta))",
            ),
        ),
        Step(
            "The gradient gamma v_j u_k has the sign s_v s_u: their product with it is positive.",
            Inequality(
                s_v * s_u * (gamma * g * u) > 0,
                (sp.Eq(s_v**2, 1), sp.Eq(s_u**2, 1), s_v * g > 0, s_u * u > 0),
                (("sign", -s_v * s_u * (gamma * g * u) > 0), ("exponent", s_v**2 * s_u * (gamma * g * u) > 0)),
            ),
        ),
        Step(
            "So B_1 = -lr sign(v) sign(u)', and the output on a probe is -gamma lr sign(v) (sign(u)' A_0 x*).",
            MatrixIdentity(
                (gamma * (B @ A_0 @ probe)).where("B", -lr * (sign_v @ sign_u.T)), -(gamma * lr) * (sign_v @ sign_u.T @ A_0 @ probe)
            ),
            "output",
        ),
        Step(
            "Normal A: u* = along u + w with along = x.x*/|x|^2 and w uncorrelated, hence independent; its variance is what is left of"
            " u*'s.",
            Identity(mean((w + along * u) ** 2, ((u,), of_u), ((w,), of_w)), variance * probe_norm2, "E (w + along u)^2"),
        ),
        Step(
            "The covariance of u and u* is right, too.",
            Identity(mean(u * (w + along * u), ((u,), of_u), ((w,), of_w)), variance * dot, "E u (w + along u)"),
        ),
        Step(
            "Hence E[sign(u) u*] = along E|u|.",
            Identity(mean(s * (w + along * u), ((s, u), of_su), ((w,), of_w)), dot * mean_abs / x_norm2, "E s (w + along u)"),
        ),
        Step(
            "E|z| of a standard normal is twice its density at zero, 2/sqrt(2 pi), the antiderivative of z phi being -phi; its square"
            " is 2/pi.",
            Inequality(
                sp.Eq((2 / root) ** 2, 2 / pi),
                (sp.Eq(root**2, 2 * pi),),
                (
                    ("coefficient", sp.Eq((2 / root) ** 2, 1 / pi)),
                    ("exponent", sp.Eq(2 / root, 2 / pi)),
                    ("sign", sp.Eq((2 / root) ** 2, -2 / pi)),
                ),
            ),
        ),
        Step(
            "Channels add: E q = r along E|u|.",
            Induction(
                mean_q,
                {r: ZERO},
                {r: r + 1},
                ZERO,
                lambda before: mean(q + p, ((q,), {(1,): before}), ((p,), {(1,): along * mean_abs})),
                "E_q",
            ),
            "mean_q",
        ),
        Step(
            "And E q^2 = r variance |x*|^2 + r (r - 1) (along E|u|)^2; a sign squared is one.",
            Induction(
                square_q,
                {r: ZERO},
                {r: r + 1},
                ZERO,
                lambda before: mean((q + p) ** 2, ((q,), {(1,): mean_q, (2,): before}), ((p,), {(1,): along * mean_abs, (2,): u_probe2})),
                "E_qq",
            ),
            "square_q",
        ),
        Step(
            "At a fixed lr the rule alpha/r is stable: the mean square tends to a constant.",
            Limit(square_y.subs(gamma, alpha / r), alpha**2 * lr**2 * along**2 * mean_abs**2, r, "E y^2 at gamma = alpha/r"),
        ),
        Step(
            "The rule alpha/sqrt(r) grows: its mean square over r tends to that constant.",
            Limit(
                square_y.subs(gamma, alpha / sp.sqrt(r)) / r,
                alpha**2 * lr**2 * along**2 * mean_abs**2,
                r,
                "E y^2 / r at gamma = alpha/sqrt(r)",
            ),
        ),
        Step(
            "It is stable at lr = base/sqrt(r).",
            Limit(
                square_y.subs(gamma, alpha / sp.sqrt(r)).subs(lr, base / sp.sqrt(r)),
                alpha**2 * base**2 * along**2 * mean_abs**2,
                r,
                "E y^2 at gamma = alpha/sqrt(r), lr = base/sqrt(r)",
            ),
        ),
        Step(
            "For an orthogonal probe the rule alpha/sqrt(r) is the stable one.",
            Limit(
                square_y.subs(dot, 0).subs(gamma, alpha / sp.sqrt(r)),
                alpha**2 * lr**2 * variance * probe_norm2,
                r,
                "E y^2 at x.x* = 0, gamma = alpha/sqrt(r)",
            ),
        ),
        Step(
            "Any law: |u| >= 3 u^2/(2 a) - u^4/(2 a^3) for every a > 0 ...",
            Inequality(
                sp.Abs(u) >= 3 * u**2 / (2 * scale) - u**4 / (2 * scale**3),
                (),
                (
                    ("coefficient", sp.Abs(u) >= 2 * u**2 / scale - u**4 / (2 * scale**3)),
                    ("sign", sp.Abs(u) >= 3 * u**2 / (2 * scale) + u**4 / (2 * scale**3)),
                    ("exponent", sp.Abs(u) >= 3 * u**4 / (2 * scale) - u**4 / (2 * scale**3)),
                ),
            ),
        ),
        Step(
            "... and |u| <= (a + u^2/a)/2, so E|u| <= sqrt(E u^2) at a^2 = E u^2 ...",
            Inequality(
                sp.Abs(u) <= (scale + u**2 / scale) / 2,
                (),
                (
                    ("coefficient", sp.Abs(u) <= (scale + u**2 / scale) / 3),
                    ("sign", sp.Abs(u) <= (scale - u**2 / scale) / 2),
                    ("exponent", sp.Abs(u) <= (scale + u**4 / scale) / 2),
                ),
            ),
        ),
        Step(
            "... and with a^2 = E u^4 / E u^2 in step 14, E|u| >= E u^2 / a: E|u| has the order of sqrt(variance) |x|.",
            Identity(
                3 * variance * x_norm2 / (2 * scale) - (scale**2 * variance * x_norm2) / (2 * scale**3),
                variance * x_norm2 / scale,
                "3 E u^2/(2 a) - (a^2 E u^2)/(2 a^3)",
            ),
        ),
        Step(
            "Epsilon: for eps much larger than the gradient, g/(|g| + eps) is g/eps to within g^2/eps^2, an SGD step at lr/eps, and"
            " gamma^2 lr r returns.",
            Inequality(
                sp.Abs(g / (sp.Abs(g) + eps) - g / eps) <= g**2 / eps**2,
                (),
                (
                    ("coefficient", 2 * sp.Abs(g / (sp.Abs(g) + eps) - g / eps) <= g**2 / eps**2),
                    ("sign", sp.Abs(g / (sp.Abs(g) - 2 * eps) - g / eps) <= g**2 / eps**2),
                    ("exponent", sp.Abs(g / (sp.Abs(g) + eps) - g / eps) <= g**4 / eps**4),
                ),
            ),
        ),
    ),
    remarks=(
        "For laws that are not normal E[sign(u) u*] is along E|u| only to leading order in the width (central limit over the inputs).",
        "Later Adam steps are not signs; with the same signal they nearly are (mua-learning-rates for the exponents).",
        "Read with rank-stabilization: no rule is stable at a fixed lr for both SGD and Adam.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
