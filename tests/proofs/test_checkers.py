"""What the checkers decide, refuse and leave open."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from rsverify.proving import (
    BallBound,
    Cited,
    Identity,
    Induction,
    Inequality,
    Lemma,
    Limit,
    MatrixIdentity,
    ProofError,
    Step,
    eye,
    library,
    matrix,
    mean,
    prove,
    vector,
)  # fmt: skip
from rsverify.proving.lemma import exit_code

r, s, t = sp.symbols("r s t", positive=True)
A, B, sample = matrix("A", "r", "i"), matrix("B", "o", "r"), vector("x", "i")


def lemma(*checks: Any, name: str = "test", uses: tuple[str, ...] = ()) -> Lemma:
    steps = tuple(Step("because", check) for check in checks)
    return Lemma(name=name, statement="s", assumptions=(), uses=uses, source="none", steps=steps, remarks=())


def test_an_identity_holds_for_all_values_or_is_refuted_with_values() -> None:
    assert Identity((r + s) ** 3 / (r + s), r**2 + 2 * r * s + s**2).run().status == "proved"
    # Equal at r = 1, 2 and 3: a handful of samples would have let it pass.
    finding = Identity((r - 1) * (r - 2) * (r - 3), sp.Integer(0)).run()
    assert finding.status == "refuted" and finding.counterexample.startswith("r = ")


def test_functions_are_not_taken_for_rational() -> None:
    with pytest.raises(ProofError, match=r"sqrt\(r\) is no rational function"):
        Identity(sp.sqrt(r) ** 1, r).run()


def test_a_true_base_does_not_save_a_false_step_nor_a_true_step_a_false_base() -> None:
    def plus_one(before: sp.Expr) -> sp.Expr:
        return before + 1

    assert Induction(r, {r: sp.Integer(0)}, {r: r + 1}, sp.Integer(0), plus_one).run().status == "proved"
    step = Induction(r**2, {r: sp.Integer(0)}, {r: r + 1}, sp.Integer(0), plus_one).run()
    assert step.status == "refuted" and "after 2 steps, r = 2: f is 2, not 4" in step.counterexample
    base = Induction(r + 1, {r: sp.Integer(0)}, {r: r + 1}, sp.Integer(0), plus_one).run()
    assert base.status == "refuted" and "after 0 steps" in base.counterexample


def test_limits_are_read_off_degrees() -> None:
    assert Limit((2 * r + sp.sqrt(r)) / (r + 1), sp.Integer(2), r).run().status == "proved"
    assert Limit(1 / sp.sqrt(r), sp.Integer(0), r).run().status == "proved"
    assert Limit(sp.sqrt(r) / (s + 1), sp.Integer(0), r).run().status == "refuted"
    assert Limit(r / r**2 * r, 1 / r, r).run().status == "refuted"


def test_matrices_do_not_commute_and_sizes_must_fit() -> None:
    P, Q = matrix("P", "i", "i"), matrix("Q", "i", "i")
    finding = MatrixIdentity(P @ Q, Q @ P).run()
    assert finding.status == "refuted" and "entry (" in finding.counterexample
    assert MatrixIdentity((P @ Q).T, Q.T @ P.T).run().status == "proved"
    with pytest.raises(ProofError, match="cannot be multiplied"):
        A @ B
    with pytest.raises(ProofError, match="is added to"):
        MatrixIdentity(A, B)
    with pytest.raises(ProofError, match="is no number"):
        (B @ A @ sample).with_scalar(B, A, r)


def test_a_scalar_is_read_out_of_words() -> None:
    n = sp.Symbol("n", positive=True)
    assert (
        MatrixIdentity((sample @ sample.T @ sample @ sample.T).with_scalar(sample.T, sample, n), n * (sample @ sample.T)).run().status
        == "proved"
    )
    assert str(r * (A - (A + A) @ eye("i"))) == "r (A - (A + A) I)"


def test_inequalities_over_the_reals() -> None:
    assert Inequality(r + s >= 2 * sp.sqrt(r * s), (), ()).run().status == "proved"
    finding = Inequality(r + s >= 3 * sp.sqrt(r * s), (), ()).run()
    assert finding.status == "refuted" and "r = " in finding.counterexample
    assert not Inequality(r > 5, (r > 2, r < 1), ()).given_holds()
    with pytest.raises(ProofError, match="cannot be told to z3"):
        Inequality(sp.exp(r) >= 1, (), ()).run()


x, y = sp.symbols("x y", real=True)
gap = r + (x**2 - y**2) / (x - y) > r + 5 * x


@pytest.mark.parametrize(
    ("claim", "given"),
    [
        (gap, (sp.Eq(x, y),)),  # nothing but the quotient itself says that x is not y
        (1 / x > 0, (x >= 0,)),
        (x**-2 > 0, ()),
        (sp.sqrt(x) >= 0, ()),
        (sp.sqrt(x - y) >= 0, (x >= y - 1,)),
        (1 / sp.sqrt(x) > 0, (x >= 0,)),
        (sp.sqrt(1 - sp.sqrt(x)) <= 1, (x >= 0,)),
        (x * y > 0, (1 / x > 1 / y, x > 0)),  # what is given has a domain, too
    ],
)
def test_a_claim_without_a_domain_is_refused(claim: Any, given: tuple[Any, ...]) -> None:
    """That it has a value must follow from what is assumed; the twin that says so is proved or refuted for its own sake."""
    finding = Inequality(claim, given, ()).run()
    assert finding.status == "refuted" and finding.counterexample and "not defined" in finding.detail


@pytest.mark.parametrize(
    ("claim", "given"),
    [
        (gap, (x > y, x + y > 5 * x)),
        (1 / x > 0, (x > 0,)),
        (x**-2 > 0, (sp.Ne(x, 0),)),
        (sp.sqrt(x - y) >= 0, (x >= y,)),
        (1 / sp.sqrt(x) > 0, (x > 0,)),
        (sp.sqrt(1 - sp.sqrt(x)) <= 1, (x >= 0, x <= 1)),
        (y > x, (x > 0, y > 0, 1 / x > 1 / y)),
    ],
)
def test_a_domain_that_follows_is_enough(claim: Any, given: tuple[Any, ...]) -> None:
    assert Inequality(claim, given, ()).run().status == "proved"


def test_a_nonnegative_symbol_may_be_zero() -> None:
    n = sp.Symbol("n", nonnegative=True)
    assert Inequality(r + n > 0, (), ()).run().status == "proved"
    assert Inequality(n * r > 0, (), ()).run().status == "refuted" and Inequality(r / n >= 0, (), ()).run().status == "refuted"


def test_an_identity_says_where_it_divides() -> None:
    quotient = (x**2 - y**2) / (x - y)
    assert Identity(quotient, x + y).run().status == "refuted" and "divides by x - y" in Identity(quotient, x + y).run().counterexample
    assert Identity(quotient, x + y, where=(y - x,)).run().status == "proved"
    assert Identity(quotient, x + y, where=(y + x,)).run().status == "refuted"
    assert Identity(quotient, x + y, where=(y - x,)).text().endswith(", where -x + y is not 0")
    assert Identity((r**2 - s**2) / (r + s), r - s).run().status == "proved"  # a sum of positive symbols is not zero
    unsaid = Induction(r / (x - y), {r: sp.Integer(0)}, {r: r + 1}, sp.Integer(0), lambda before: before + 1 / (x - y))
    assert unsaid.run().status == "refuted" and "may be zero" in unsaid.run().counterexample
    assert MatrixIdentity((1 / x) * A, (1 / x) * A).run().status == "refuted"


def test_a_limit_takes_no_root_for_what_it_is_the_root_of() -> None:
    w = sp.Symbol("w")
    for number in (x, w):
        with pytest.raises(ProofError, match="is no rational function"):
            Limit(sp.sqrt(number**2) * r / (r + 1), number, r).run()
    assert Limit(sp.sqrt(s**2) * r / (r + 1), s, r).run().status == "proved"
    with pytest.raises(ProofError, match="is no rational function"):
        Limit(((r * x) ** 2) ** sp.Rational(1, 2) / r, x, r).run()


def test_a_limit_holds_at_all_values_of_the_others() -> None:
    assert "may be zero" in Limit(1 / (x * r + 1), sp.Integer(0), r).run().counterexample  # at x = 0 it is 1
    assert Limit(1 / (s * r + 1), sp.Integer(0), r).run().status == "proved"
    assert Limit(r / (r + x), sp.Integer(1), r).run().status == "proved"  # x does not lead
    assert Limit(r / ((s - t) * r + 1), 1 / (s - t), r).run().status == "refuted"


def test_balls_decide_only_what_their_radius_allows() -> None:
    assert BallBound(sp.log(r), sp.sqrt(r), r, 64, ()).run().status == "proved"
    assert "at r = 4" in BallBound(sp.sqrt(r), sp.Integer(2), r, 64, ()).run().counterexample
    assert BallBound(sp.pi * r, sp.gamma(r + 1) / sp.gamma(r) * sp.pi, r, 2, ()).run().status in ("undecided", "refuted")
    with pytest.raises(ProofError, match="ball arithmetic"):
        BallBound(sp.sin(r), sp.Integer(2), r, 1, ()).run()


def test_a_moment_that_nobody_told_is_refused() -> None:
    with pytest.raises(ProofError, match=r"E of s\*\*4 is needed"):
        mean(s**4, ((s,), {(2,): r}))


@pytest.mark.parametrize("missing", ["z3", "flint"])
def test_a_missing_checker_is_a_skipped_step_and_not_a_pass(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == missing:
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    check = Inequality(r >= 0, (), (("sign", r <= 0),)) if missing == "z3" else BallBound(-r, r, r, 4, (("sign", (r, -r)),))
    result = prove(lemma(check, Identity(r + r, 2 * r)))
    assert [finding.status for finding in result.findings] == ["skipped", "proved"]
    assert result.status == "skipped" and exit_code([result]) == 3
    assert "pip install 'rsverify[proofs]'" in result.findings[0].detail


def test_the_worst_step_decides() -> None:
    good, bad = Identity(r + r, 2 * r), Identity(r + r, 3 * r)
    cited = Cited("it holds", "somebody", seen=False)
    assert prove(lemma(cited)).status == "cited" and exit_code([prove(lemma(cited))]) == 0
    assert prove(lemma(good, cited)).status == "proved" and prove(lemma(good, cited)).scopes == ("all r", "cited")
    assert prove(lemma(good, bad)).status == "refuted" and exit_code([prove(lemma(good, bad))]) == 1


def test_a_step_without_a_twin_is_refused() -> None:
    with pytest.raises(ProofError, match="has no corrupted twin"):
        lemma(Inequality(r >= 0, (), ()))
    with pytest.raises(ProofError, match="has no steps"):
        lemma()


FILE = """
import sympy as sp
from rsverify.proving import Identity, Lemma, Step, taken
r = sp.Symbol("r")
for other in {uses!r}:
    taken(other)("twice")
steps = (Step("", Identity(r + r, 2 * r), "twice"),)
lemma = Lemma(name="{name}", statement="s", assumptions=(), uses={uses!r}, source="", steps=steps, remarks=())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(library, "folder", lambda: tmp_path)
    library.lemmas.cache_clear()
    yield tmp_path
    library.lemmas.cache_clear()


def test_lemmas_come_after_what_they_use(folder: Path) -> None:
    (folder / "a_lemma.py").write_text(FILE.format(name="a-lemma", uses=("b",)), encoding="utf-8")
    (folder / "b.py").write_text(FILE.format(name="b", uses=()), encoding="utf-8")
    assert list(library.lemmas()) == ["b", "a-lemma"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": FILE.format(name="a", uses=("b",)), "b": FILE.format(name="b", uses=("a",))}, "in a circle: a -> b -> a"),
        ({"a": FILE.format(name="a", uses=("c",))}, "takes formulas from 'c', which no file holds"),
        ({"a": FILE.format(name="b", uses=())}, "expected the file b.py"),
        ({"a": "x = 1"}, "holds no `lemma"),
        (
            {
                "a": FILE.format(name="a", uses=("b",)).replace("for other in ('b',)", "for other in ()"),
                "b": FILE.format(name="b", uses=()),
            },
            "lemma 'a' uses b and takes formulas from none",
        ),
        (
            {"a": FILE.format(name="a", uses=("b",)).replace("uses=('b',)", "uses=()"), "b": FILE.format(name="b", uses=())},
            "lemma 'a' uses none and takes formulas from b",
        ),
        ({"a": FILE.format(name="a", uses=()).replace("steps = (", "steps = 2 * (")}, "two steps of lemma 'a' are named twice"),
    ],
)
def test_a_library_that_does_not_hang_together_is_refused(folder: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.raises(ProofError, match=message):
        library.lemmas()


def test_a_missing_folder_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "_PACKAGE", tmp_path / "rsverify")
    with pytest.raises(ProofError, match="the folder of proofs is missing"):
        library.folder()


def test_two_symbols_of_one_name_are_not_confused() -> None:
    other = sp.Symbol("r", real=True)
    with pytest.raises(ProofError, match="share a name"):
        Identity(r, other).run()
    with pytest.raises(ProofError, match="two different symbols"):
        Inequality(r >= other, (), ()).run()
