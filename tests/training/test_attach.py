"""Adapters as maps on data: any declared expression, and models that are found as they were left."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rsverify.definitions import Adapter, Constant, Gaussian, KaimingUniform, PrincipalComponents, as_adapter, frozen
from rsverify.errors import AdapterError, InputError
from rsverify.training.adapters.attach import attach, build_adapters, merge, unmerge
from rsverify.training.adapters.contraction import draw_factors, two_factors
from rsverify.training.model.linears import find_targets

NORMAL = Gaussian(std=1)
DECLARED = [
    Adapter("pair", "o r, r i -> o i", B=NORMAL, A=KaimingUniform(fan_in="i")),
    Adapter("three", "o r, r s, s i -> o i", rank_axes=("r", "s"), B=NORMAL, M=NORMAL, A=frozen(NORMAL)),
    Adapter("vera-like", "o, o r, r, r i -> o i", b=NORMAL, B=frozen(NORMAL), d=Constant(0.1), A=frozen(NORMAL)),
    Adapter("product", "o r, r i, o s, s i -> o i", rank_axes=("r", "s"), B=NORMAL, A=NORMAL, D=NORMAL, C=NORMAL),
    Adapter(
        "kronecker", "a b, p r, r q -> (a p) (b q)", sizes={"a": "2", "b": "3", "p": "d_out/2", "q": "d_in/3"},
        K=NORMAL, B=NORMAL, A=NORMAL,
    ),
]  # fmt: skip


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def test_principal_components_absorb_the_gamma_they_are_attached_with():
    """gamma B A is the principal part whatever gamma is; without a gamma there is no draw."""
    pissa = Adapter("pissa-like", "o r, r i -> o i", B=PrincipalComponents("columns", "1/2"), A=PrincipalComponents("rows", "1/2"))
    net = model()
    first, second = (build_adapters(net, pissa, rank=3, gamma=g, targets=["0"], seed=1)["0"] for g in (0.25, 16.0))
    torch.testing.assert_close(first.delta(), second.delta())
    singular = torch.linalg.svdvals(first.delta())
    torch.testing.assert_close(singular[:3], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) ** -0.5)
    with pytest.raises(AdapterError, match="gamma=None"):
        draw_factors(pissa, rank=3, d_in=6, d_out=8, seed=1, draw=0, layer="0")


@pytest.mark.parametrize("adapter", DECLARED, ids=lambda a: a.name)
def test_acts_as_its_delta(adapter):
    net = model()
    modules = build_adapters(net, adapter, rank=5, gamma=0.7, targets=["0"], seed=1)
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 2, 6)
    expected = net[0](x) + x @ modules["0"].delta().T
    with attach(net, modules) as attached:
        torch.testing.assert_close(net[0](x), expected)
        merge(attached)
        torch.testing.assert_close(net[0](x), expected)
        with pytest.raises(InputError, match="already in the weights"):
            merge(attached)
        unmerge(attached)
        with pytest.raises(InputError, match="merge first"):
            unmerge(attached)
        assert [p.requires_grad for p in net.parameters()] == [False] * 4
        assert all(p.requires_grad for p in attached.parameters())
        assert len(attached.parameters()) == len(adapter.trainable)
    assert [p.requires_grad for p in net.parameters()] == [True] * 4


def test_kronecker_delta_is_torch_kron():
    module = build_adapters(model(), DECLARED[-1], rank=2, gamma=2.0, targets=["0"])["0"]
    torch.testing.assert_close(module.delta(), 2.0 * torch.kron(module.factor("K"), module.factor("B") @ module.factor("A")))


def test_restores_after_an_error():
    net = model()
    x = torch.ones(6, dtype=torch.float64)
    before = net(x)
    modules = build_adapters(net, DECLARED[0], rank=2, gamma=1.0, targets=["*"])

    def fail_while_merged():
        with attach(net, modules) as attached:
            merge(attached)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_while_merged()
    assert torch.equal(net(x), before)


def test_draws_differ_between_layers_draws_ranks_and_seeds():
    def A(**kw):
        return build_adapters(
            nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}), as_adapter("lora"), gamma=1.0, targets=["*"], **kw
        )

    base = A(rank=3)
    assert torch.equal(base["a"].factor("A"), A(rank=3)["a"].factor("A"))
    for other in (base["b"], A(rank=3, draw=1)["a"], A(rank=3, seed=1)["a"], A(rank=4)["a"]):
        assert not torch.equal(base["a"].factor("A"), other.factor("A")[:3])


def blocks():
    return nn.ModuleDict({"block": nn.ModuleDict({"q": nn.Linear(2, 2), "k": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})})


@pytest.mark.parametrize(
    ("patterns", "found"),
    [(["q"], "q"), (["block.k"], "k"), (["block.*"], "qk"), (["*[qv]"], "q"), (["k", "q"], "qk"), (["*", "q"], "qk"), (["?lock.k"], "k")],
)
def test_targets_are_names_endings_or_globs_in_the_order_of_the_model(patterns, found):
    assert find_targets(blocks(), patterns) == tuple(f"block.{name}" for name in found)


EXIST = (
    r"this model's linears end in: q, k \(2 in all, e\.g\. block\.q\); expected a full name, its ending, or a glob .* '\*q' \(no regular"
)


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["q", "value"], "targets='value' matches no module; "),
        (["norm"], "targets='norm' matches 'block.norm', which is no nn.Linear; "),
        (["*.norm"], r"targets='\*.norm' matches 'block.norm', which is no nn.Linear; "),
        (["block"], "targets='block' matches 'block', which is no nn.Linear; "),
        (["(q|k)"], r"targets='\(q\|k\)' matches no module; "),
        ([".*q"], r"targets='\.\*q' matches no module; "),
        (["*[qk"], r"targets='\*\[qk' matches no module; "),
        (["q", " k"], "targets=' k' matches no module; "),
        ([""], "targets='' matches no module; "),
        ([], r"targets=\[\] names nothing to adapt; "),
    ],
    ids=[
        "nothing",
        "no linear",
        "glob of no linear",
        "a parent",
        "alternatives",
        "regular expression",
        "open bracket",
        "a blank",
        "empty",
        "none",
    ],
)
def test_a_pattern_that_does_not_fit_is_told_what_exists_and_what_a_pattern_is(patterns, said):
    with pytest.raises(InputError, match="^" + said + EXIST):
        find_targets(blocks(), patterns)


def test_one_text_is_no_sequence_of_patterns():
    """Letter by letter 'qk' would be two linears."""
    with pytest.raises(InputError, match=r"targets='qk' is a text; expected a sequence of patterns, e\.g\. \['qk'\]"):
        find_targets(blocks(), "qk")


def test_a_model_without_linears_says_so():
    with pytest.raises(InputError, match=r"targets='q' matches no module; this model has no nn\.Linear$"):
        find_targets(nn.Sequential(nn.Conv1d(2, 2, 1)), ["q"])


def test_two_factors_reads_structure_not_names():
    assert two_factors(DECLARED[0]) == ("B", "A")
    assert two_factors(Adapter("swapped", "k i, o k -> o i", rank_axes=("k",), down=NORMAL, up=NORMAL)) == ("up", "down")
    assert two_factors(DECLARED[1]) is None
