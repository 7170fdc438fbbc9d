"""The rank-free layer is LoRA: the same path for the same A_0, the same law for Gaussian A, full fine-tuning in the limit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsverify.definitions.optimizers import as_optimizer
from rsverify.errors import InputError
from rsverify.statistics.streams import stream
from rsverify.training.adapters import rank_free as rankfree
from rsverify.training.adapters.rank_free import RankFree, build_rank_free, draw_gram, kaiming_variance, train_full, train_rank_free

D_IN, D_OUT, SAMPLES = 7, 5, 6


class Net(torch.nn.Module):
    """Two linears with a nonlinearity between, so that what is passed to the input matters."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(D_IN, D_OUT, dtype=torch.float64)
        self.second = torch.nn.Linear(D_OUT, 3, dtype=torch.float64)
        draws = stream(seed, "tests", "rankfree", "net")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.from_numpy(draws.standard_normal(tuple(parameter.shape))))

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def batches(net, seed, count):
    draws = stream(seed, "tests", "rankfree", "data")
    data = [
        (torch.from_numpy(draws.standard_normal((SAMPLES, D_IN))), torch.from_numpy(draws.standard_normal((SAMPLES, 3))))
        for _ in range(count)
    ]
    return [lambda x=x, y=y: (net(x) - y).square().mean() for x, y in data]


def plain_lora(net, losses, A0, *, gamma, lr, momentum, decay, lr_ratio):
    """LoRA by autograd and torch.optim.SGD, on both linears; returns losses, gradient norms, added weights."""
    A = {name: torch.nn.Parameter(a.clone()) for name, a in A0.items()}
    B = {name: torch.nn.Parameter(torch.zeros(net.get_submodule(name).out_features, a.shape[0], dtype=a.dtype)) for name, a in A0.items()}
    net.requires_grad_(False)
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda m, x, y, name=name: y + gamma * x[0] @ A[name].T @ B[name].T) for name in A0
    ]
    groups = [{"params": list(B.values()), "lr": lr * lr_ratio}, {"params": list(A.values()), "lr": lr}]
    optimizer = torch.optim.SGD(groups, momentum=momentum, weight_decay=decay)
    seen, norms = [], []
    for loss in losses:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        seen.append(value.item())
        norms.append(sum(p.grad.square().sum() for p in [*A.values(), *B.values()]).sqrt().item())
        optimizer.step()
    seen.append(losses[-1]().item())
    for hook in hooks:
        hook.remove()
    return seen, norms, {name: (gamma * B[name] @ A[name]).detach() for name in A0}


def a_zero(rank, seed):
    draws = stream(seed, "tests", "rankfree", "A", rank)
    return {name: torch.from_numpy(draws.standard_normal((rank, d))) / d**0.5 for name, d in (("first", D_IN), ("second", D_OUT))}


def compare(rank, seed, *, steps=5, gamma=0.7, lr=0.05, momentum=0.0, decay=0.0, lr_ratio=1.0):
    """Largest relative difference between the two routes, over losses, gradient norms and added weights."""
    net = Net(seed)
    losses = batches(net, seed, steps)
    A0 = a_zero(rank, seed)
    expected = plain_lora(net, losses, A0, gamma=gamma, lr=lr, momentum=momentum, decay=decay, lr_ratio=lr_ratio)
    modules = {name: RankFree(a.T @ a, d_out=net.get_submodule(name).out_features, gamma=gamma) for name, a in A0.items()}
    options = {"weight_decay": decay, "lr_ratio": lr_ratio, **({"momentum": momentum} if momentum else {})}
    optimizer = as_optimizer("momentum" if momentum else "sgd").with_options(**options)
    found = train_rank_free(net, modules, losses, optimizer=optimizer, lr=lr)
    pairs = [
        *zip(found.losses, expected[0], strict=True),
        *zip(found.gradient_norms, expected[1], strict=True),
        *((found.deltas[name].numpy(), expected[2][name].numpy()) for name in A0),
    ]
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max()) for a, b in pairs)


# Some hundred roundings a step, amplified by the network's own slope over five steps.
CLOSE = 1e-11


@settings(max_examples=25)
@given(
    rank=st.integers(1, 20), seed=st.integers(0, 1000), momentum=st.sampled_from([0.0, 0.9]), decay=st.sampled_from([0.0, 0.1]),
    lr_ratio=st.sampled_from([1.0, 4.0]),
)  # fmt: skip
def test_it_walks_the_path_of_lora(rank, seed, momentum, decay, lr_ratio):
    assert compare(rank, seed, momentum=momentum, decay=decay, lr_ratio=lr_ratio) <= CLOSE


@pytest.mark.parametrize(
    "mutant",
    [
        lambda v, x, h, Q, M, S, g: (g * (v @ Q) @ S @ M, g * (v.T @ x), g * (v @ Q).T @ x),  # x for M x
        lambda v, x, h, Q, M, S, g: (g * (v @ Q) @ S @ M, g * (v.T @ h) @ S, g * (v @ Q @ S).T @ x),  # the loss's gradients in Q and M
        lambda v, x, h, Q, M, S, g: (g * (v @ Q) @ M, g * (v.T @ h), g * (v @ Q).T @ x),  # no S on the way down
        lambda v, x, h, Q, M, S, g: (g * (v @ Q) @ S @ M, v.T @ h, g * (v @ Q).T @ x),  # gamma lost
        lambda v, x, h, Q, M, S, g: (g * (v @ Q) @ S @ M, g * (v.T @ h), -g * (v @ Q).T @ x),  # a sign
    ],
)
def test_a_wrong_step_leaves_the_path(monkeypatch, mutant):
    def backward(ctx, v):
        x, h, Q, M, S = ctx.saved_tensors
        return (*mutant(v, x, h, Q, M, S, ctx.gamma), None, None)

    monkeypatch.setattr(rankfree._Apply, "backward", staticmethod(backward))
    assert compare(4, 0) > 1e-6


def test_the_gram_matrix_has_the_moments_of_its_law():
    """E S = r var I and Var S_ij = r var**2 (1 + [i = j]), at ranks below and far above the width, each within 6 standard errors."""
    draws = 400
    for rank in (2, 40, 10**12):
        S = np.stack([draw_gram(4, rank, variance=0.5, seed=0, draw=k, layer="l").numpy() for k in range(draws)]) / (0.5 * rank)
        error = 6 * np.sqrt((1 + np.eye(4)) / rank / draws)
        assert (np.abs(S.mean(0) - np.eye(4)) <= error).all()
        # Var of the sample variance: 2/n for normal entries, up to kurtosis 15/rank of these
        spread = S.var(0, ddof=1) * rank / (1 + np.eye(4))
        assert (np.abs(spread - 1) <= 6 * np.sqrt((2 + 15 / rank) / draws)).all()


def test_the_model_is_as_before():
    net = Net(0)
    before = {name: p.clone() for name, p in net.named_parameters()}
    losses = batches(net, 0, 2)
    build = build_rank_free(net, ("first", "second"), rank=8, gamma=1.0)
    train_rank_free(net, build, losses, optimizer=as_optimizer("sgd"), lr=0.1)
    train_full(net, {"first": 0.1}, losses, optimizer=as_optimizer("sgd"))
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in net.named_parameters())
    assert not net.first._forward_hooks


def test_full_fine_tuning_is_that_of_torch():
    net, other = Net(0), Net(0)
    rates = {"first": 0.1, "second": 0.02}
    found = train_full(net, rates, batches(net, 0, 4), optimizer=as_optimizer("momentum"))
    before = {name: other.get_submodule(name).weight.detach().clone() for name in rates}
    groups = [{"params": [other.get_submodule(name).weight], "lr": rate} for name, rate in rates.items()]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    for loss in batches(other, 0, 4):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    for name in rates:
        expected = other.get_submodule(name).weight.detach() - before[name]
        assert torch.allclose(found.deltas[name], expected, rtol=1e-12, atol=1e-14)


def test_at_huge_rank_it_is_full_fine_tuning_at_the_derived_rate():
    import rsverify as rv

    net = Net(1)
    losses = batches(net, 1, 3)
    rank, alpha, lr = 10**12, 2.0, 0.05
    build = build_rank_free(net, ("first", "second"), rank=rank, gamma=rv.ScalingRule("alpha/sqrt(r)").gamma(rank, alpha))
    found = train_rank_free(net, build, losses, optimizer=as_optimizer("sgd"), lr=lr)
    limit = rv.limit_of_rank("lora", "alpha/sqrt(r)")
    rates = {name: limit.learning_rate(alpha=alpha, lr=lr, d_in=d, d_out=1) for name, d in (("first", D_IN), ("second", D_OUT))}
    assert rates["first"] == pytest.approx(alpha**2 * kaiming_variance(D_IN) * lr)
    full = train_full(net, rates, losses, optimizer=as_optimizer("sgd"))
    for name in rates:
        far = (found.deltas[name] - full.deltas[name]).norm() / full.deltas[name].norm()
        assert 1e-8 < far < 1e-5  # of the order of r**-1/2 = 1e-6: near, and still a draw


@pytest.mark.parametrize("optimizer", ["adamw", "sgd:clip=1", "signsgd"])
def test_other_optimizers_are_refused(optimizer):
    net = Net(0)
    with pytest.raises(InputError, match="does not keep"):
        train_rank_free(
            net, build_rank_free(net, ("first",), rank=4, gamma=1.0), batches(net, 0, 1), optimizer=as_optimizer(optimizer), lr=0.1
        )
    with pytest.raises(InputError, match="A_0'A_0"):
        RankFree(torch.zeros(3, 4), d_out=2, gamma=1.0)
