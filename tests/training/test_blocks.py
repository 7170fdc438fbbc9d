"""What is exact on any transformer block, for drawn sizes; every property is seen to fail on a block or adapter that is wrong."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rsverify.definitions import Gaussian, as_adapter, as_optimizer, as_rule
from rsverify.interop.transformers import match_targets, replace_conv1d
from rsverify.statistics.streams import stream
from rsverify.training.adapters.attach import attach, build_adapters, merge, unmerge
from rsverify.training.adapters.contraction import AdapterModule
from rsverify.training.first_step.by_autograd import first_step_by_autograd
from rsverify.training.first_step.probes import capture
from rsverify.training.model.linears import find_targets, linear_at
from rsverify.training.model.problem import Problem
from rsverify.training.model.transformer import LINEARS, Attention, Transformer, TransformerConfig, next_token_loss, rotate
from rsverify.training.stack.loop import train

LORA = as_adapter("lora")
MOVED = LORA.with_init(B=Gaussian(std="0.3/sqrt(r)"))
"""LoRA whose B is not zero: at B = 0 a wrong gamma in the forward pass stays unseen."""

Mutation = Callable[[AdapterModule], None]
Spoil = Callable[[nn.Module], None]

HUGGING_FACE = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "mistral": "MistralConfig", "gpt2": "GPT2Config"}
absent = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="pip install 'rsverify[realmodel]'")
every_kind = pytest.mark.parametrize("kind", ["compact", *(pytest.param(kind, marks=absent) for kind in HUGGING_FACE)])


@dataclass(frozen=True)
class Case:
    kind: str
    config: TransformerConfig
    rank: int
    alpha: float
    rules: tuple[str, str]
    optimizer: str
    dtype: torch.dtype
    seed: int

    @property
    def eps(self) -> float:
        """Rounding unit of a forward pass: norms and softmax of Hugging Face blocks compute in float32 whatever the dtype."""
        return torch.finfo(self.dtype if self.kind == "compact" else torch.float32).eps

    @property
    def gammas(self) -> tuple[float, float]:
        first, second = (as_rule(rule).gamma(self.rank, self.alpha) for rule in self.rules)
        return first, second


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    kv_heads = draw(st.integers(1, 2))
    heads = kv_heads * draw(st.integers(1, 2))
    config = TransformerConfig(
        d=heads * 2 * draw(st.integers(2, 4)), layers=draw(st.integers(1, 2)), heads=heads, kv_heads=kv_heads,
        ffn=draw(st.integers(5, 40)), vocabulary=draw(st.integers(11, 40)),
    )  # fmt: skip
    rank = draw(st.sampled_from([2, 3, 5, 8, 24]))
    rules = draw(st.permutations(["alpha/r", "alpha/sqrt(r)", "alpha/r**0.75", "alpha/r**2"]))[:2]
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    alpha = draw(st.sampled_from([0.7, 4.0, 20.0]))
    optimizer = draw(st.sampled_from(["sgd", "signsgd", "adamw", "lion", "momentum"]))
    return Case(kind, config, rank, alpha, (rules[0], rules[1]), optimizer, dtype, draw(st.integers(0, 2**32)))


few = settings(max_examples=8, deadline=None)
drawn = given(data=st.data())


def make(case: Case, *, spoil: Spoil = lambda model: None) -> Problem:
    """A block with weights and tokens from the case's own streams."""
    model = empty(case)
    with torch.no_grad():
        for name, value in model.named_parameters():
            spread = 1.0 if value.ndim < 2 else 2.0 * value.shape[-1] ** -0.5
            value.copy_(torch.from_numpy(stream(case.seed, "weights", name).standard_normal(tuple(value.shape)) * spread))
    spoil(model)
    tokens = torch.from_numpy(stream(case.seed, "tokens").integers(0, case.config.vocabulary, (2, 7)))
    targets = find_targets(model, LINEARS) if case.kind == "compact" else match_targets(model, "all-linear")
    return Problem("drawn block", model, lambda: next_token_loss(logits(model, tokens), tokens), targets)


def empty(case: Case) -> nn.Module:
    c = case.config
    if case.kind == "compact":
        return Transformer(c).to(case.dtype)
    import transformers

    if case.kind == "gpt2":
        sizes = {"n_embd": c.d, "n_layer": c.layers, "n_head": c.heads, "n_inner": c.ffn, "n_positions": 16}
    else:
        sizes = {
            "hidden_size": c.d, "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
            "intermediate_size": c.ffn, "max_position_embeddings": 16,
        }  # fmt: skip
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    config = getattr(transformers, HUGGING_FACE[case.kind])(vocab_size=c.vocabulary, **sizes, **marks)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(case.dtype).eval()
    replace_conv1d(model)
    return model


def logits(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens) if isinstance(model, Transformer) else model(input_ids=tokens, use_cache=False).logits


def adapted(case: Case, problem: Problem, *, gamma: float, adapter=LORA, mutation: Mutation | None = None) -> dict[str, AdapterModule]:
    modules = build_adapters(problem.model, adapter, rank=case.rank, gamma=gamma, targets=problem.targets, seed=case.seed)
    for module in modules.values() if mutation else ():
        mutation(module)
    return modules


def gamma_twice(module: AdapterModule) -> None:
    inner = module.contract
    module.contract = lambda x: module.gamma * inner(x)  # type: ignore[method-assign]


def gamma_forgotten(module: AdapterModule) -> None:
    module.gamma = 1.0


def gradient_bound(case: Case, problem: Problem) -> tuple[float, float]:
    """Frobenius norm of grad_B / gamma, and a bound of its rounding error: terms * eps * | |V|' |X| |A|' |."""
    eps, square, error = torch.finfo(case.dtype).eps, 0.0, 0.0
    modules = adapted(case, problem, gamma=1.0)
    for layer in capture(problem).layers:
        A = modules[layer.name].factor("A").detach()
        terms = layer.tokens + sum(layer.G.shape) + case.rank
        square += float((layer.G @ A.T).square().sum())
        error += (4 * terms * eps * float((layer.V.abs().T @ layer.X.abs() @ A.abs().T).norm())) ** 2
    return math.sqrt(square), math.sqrt(error)


def check_gradients_proportional_to_gamma(case: Case, mutation: Mutation | None = None) -> None:
    problem = make(case)
    found: list[Tensor] = []
    for gamma in case.gammas:
        with attach(problem.model, adapted(case, problem, gamma=gamma, mutation=mutation)) as attached:
            named = [(n, p) for module in attached.adapters.values() for n, p in module.trainable.items()]
            gradients = torch.autograd.grad(problem.loss(), [p for _, p in named])
            assert all(not g.any() for (n, _), g in zip(named, gradients, strict=True) if n == "A")
            found.append(torch.cat([g.flatten() for (n, _), g in zip(named, gradients, strict=True) if n == "B"]) / gamma)
    _, bound = gradient_bound(case, problem)
    assert float((found[0] - found[1]).norm()) <= bound


@every_kind
@few
@drawn
def test_gradients_at_init_are_proportional_to_gamma(kind, data):
    case = data.draw(cases(kind))
    check_gradients_proportional_to_gamma(case)
    with pytest.raises(AssertionError):
        check_gradients_proportional_to_gamma(case, gamma_twice)


def check_loss_decrease_ratio(case: Case, *, drop_gamma: bool = False) -> None:
    problem = make(case)
    size, error = gradient_bound(case, problem)
    entries = sum(sum(layer.G.shape) * case.rank for layer in capture(problem).layers)
    first, second = case.gammas
    for optimizer, power in (("sgd", 2), ("signsgd", 1)):
        decreases = [
            first_step_by_autograd(
                problem, LORA, rank=case.rank, gamma=1.0 if drop_gamma else gamma, optimizer=as_optimizer(optimizer), seed=case.seed
            )["loss_decrease"]
            for gamma in case.gammas
        ]
        # sum of squares: twice the relative error of g; sum of |g|: sqrt(entries) times it, as |g|_1 >= |g|_2; plus the sum's own rounding
        relative = (2 if power == 2 else math.sqrt(entries)) * 2 * error / size + entries * torch.finfo(case.dtype).eps
        assert decreases[0] / decreases[1] == pytest.approx((first / second) ** power, rel=relative)


@every_kind
@few
@drawn
def test_loss_decreases_of_two_rules_stand_as_powers_of_their_gammas(kind, data):
    case = data.draw(cases(kind))
    check_loss_decrease_ratio(case)
    with pytest.raises(AssertionError):
        check_loss_decrease_ratio(case, drop_gamma=True)


def check_merge(case: Case, mutation: Mutation | None = None) -> None:
    problem = make(case)
    gamma = case.gammas[0]
    eps = torch.finfo(case.dtype).eps
    before = problem.loss().item()
    modules = adapted(case, problem, gamma=gamma, adapter=MOVED, mutation=mutation)
    with attach(problem.model, modules) as attached, torch.no_grad():
        acting = problem.loss().item()
        for name, module in modules.items():
            linear = linear_at(problem.model, name)
            x = torch.from_numpy(stream(case.seed, "x", name).standard_normal((5, linear.in_features))).to(case.dtype)
            beside = linear(x)
            merge(attached)
            inside = linear(x)
            unmerge(attached)
            bias = 0.0 if linear.bias is None else linear.bias.abs()
            size = bias + x.abs() @ linear.weight.abs().T + gamma * x.abs() @ module.factor("A").abs().T @ module.factor("B").abs().T
            assert ((beside - inside).abs() <= 4 * (linear.in_features + case.rank) * eps * size).all()
        merge(attached)
        unmerge(attached)
        assert problem.loss().item() == acting
        merge(attached)
    assert problem.loss().item() == before


@every_kind
@few
@drawn
def test_merged_equals_unmerged(kind, data):
    case = data.draw(cases(kind))
    check_merge(case)

    def merge_without_gamma(module: AdapterModule) -> None:
        inner = module.delta
        module.delta = lambda: inner() / module.gamma * 1.1  # type: ignore[method-assign]

    with pytest.raises(AssertionError):
        check_merge(case, merge_without_gamma)


class Drifting(nn.Module):
    """A norm that moves its own weight whenever it runs, as a running statistic would."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.inner.weight.mul_(1.001)
        return self.inner(x)


def drift(model: nn.Module) -> None:
    name = next(name for name, module in model.named_modules() if "Norm" in type(module).__name__)
    put(model, name, Drifting(model.get_submodule(name)))


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def check_frozen(case: Case, spoil: Spoil = lambda model: None) -> None:
    problem = make(case, spoil=spoil)
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    asked = {name: p.requires_grad for name, p in problem.model.named_parameters()}
    hooks = [len(module._forward_hooks) for module in problem.model.modules()]
    train(problem, LORA, rule=case.rules[0], rank=case.rank, optimizer=case.optimizer, lr=0.01, steps=2, alpha=case.alpha, seed=case.seed)
    after = problem.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name: p.requires_grad for name, p in problem.model.named_parameters()} == asked
    assert all(p.grad is None for p in problem.model.parameters())
    assert [len(module._forward_hooks) for module in problem.model.modules()] == hooks


@every_kind
@few
@drawn
def test_training_leaves_the_base_untouched_bit_for_bit(kind, data):
    case = data.draw(cases(kind))
    check_frozen(case)
    with pytest.raises(AssertionError):
        check_frozen(case, drift)


class Leaking(Attention):
    """Attention that sees the future."""

    def forward(self, x: Tensor) -> Tensor:
        c = self.config
        q, k, v = (
            linear(x).unflatten(-1, (heads, c.head_width)).transpose(-3, -2)
            for linear, heads in ((self.q, c.heads), (self.k, c.kv_heads), (self.v, c.kv_heads))
        )
        q, k = rotate(q, c.rope_base), rotate(k, c.rope_base)
        k, v = (part.repeat_interleave(c.heads // c.kv_heads, dim=-3) for part in (k, v))
        return self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(-3, -2).flatten(-2))


class Foreseeing(nn.Module):
    """A feed-forward part that adds the mean over all positions, later ones too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        return out + out.mean(dim=-2, keepdim=True)


def leak(model: nn.Module) -> None:
    if not isinstance(model, Transformer):
        for name in [name for name, _ in model.named_modules() if name.endswith(".mlp")]:
            put(model, name, Foreseeing(model.get_submodule(name)))
        return
    for block in model.blocks:
        leaking = Leaking(model.config)
        leaking.load_state_dict(block.attention.state_dict(), assign=True)
        block.attention = leaking


def check_padding(case: Case, spoil: Spoil = lambda model: None) -> None:
    problem = make(case, spoil=spoil)
    model = problem.model
    rng = stream(case.seed, "padding")
    tokens = torch.from_numpy(rng.integers(0, case.config.vocabulary, (2, 6)))
    padded = torch.cat([tokens, torch.from_numpy(rng.integers(0, case.config.vocabulary, (2, 5)))], dim=1)
    with attach(model, adapted(case, problem, gamma=case.gammas[0], adapter=MOVED)), torch.no_grad():
        alone, longer = logits(model, tokens), logits(model, padded)[:, :6]
    # Only the order of sums may differ; each of the two halves of a block is allowed to amplify rounding fourfold (weights have gain 2).
    terms = (case.config.ffn + case.config.d + 11) * 4 ** (2 * case.config.layers)
    assert float((alone - longer).abs().max()) <= terms * case.eps * float(alone.abs().max())


@every_kind
@few
@drawn
def test_padding_on_the_right_is_invisible(kind, data):
    case = data.draw(cases(kind))
    check_padding(case)
    with pytest.raises(AssertionError):
        check_padding(case, leak)
