"""Torch modules as black boxes: the same numbers as the dense engine for the same factors, the same law, refusals, laziness."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.errors import BudgetError, InputError
from rsverify.montecarlo import estimate
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.engines import Task, sampler_for
from rsverify.montecarlo.module.sampler import ModuleSampler, module_setting
from rsverify.montecarlo.problem import make_problem

LORA = Adapter("lora", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
RATE = 1e-7


class Lora(nn.Module):
    """LoRA as people write it."""

    def __init__(self, rank, base, alpha, *, power=0.5):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, base.in_features, dtype=torch.float64) / base.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=torch.float64))
        self.scale = alpha / rank**power

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_A.T @ self.lora_B.T)


def _task(chosen, samples=1, **more):
    problem = make_problem(0, d_in=6, d_out=4, cosine=chosen.claim.cosine, samples=samples)
    return Task(chosen, problem, 20.0, more.get("lr", 0.02), 0, more.get("budget") or Budget())


def _module(build=Lora, samples=1, budget=None, lr=0.02, **claim):
    return ModuleSampler(_task(module_setting(build, "alpha/sqrt(r)", **claim), samples, budget=budget, lr=lr), build)


CLAIMS = [
    ("update", "rms", "adamw", 3), ("update", "projection", "sgd:clip=0.5", 2), ("output", "log", "momentum", 2),
    ("loss_decrease", "rms", "signsgd", 1), ("gradient_norm", "rms", "adagrad", 2), ("input_gradient", "rms", "muon", 2),
    ("input_gradient", "projection", "sgd:lr_ratio=4", 1), ("gradient:B", "rms", "sgd", 1),
]  # fmt: skip


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(("quantity", "statistic", "optimizer", "steps"), CLAIMS)
def test_the_same_number_as_the_dense_engine_for_the_same_factors(quantity, statistic, optimizer, steps, samples):
    named = {"quantity": quantity.replace(":B", ":lora_B"), "statistic": statistic, "optimizer": optimizer, "steps": steps}
    sampler, rank = _module(samples=samples, probe="cosine:0.5", **named), 3
    seen = sampler.sample(rank, "path", 2)
    declared = _task(setting(LORA, "alpha/sqrt(r)", **{**named, "quantity": quantity}, probe="cosine:0.5"), samples)
    for number in range(2):
        with sampler._seeded("path", rank, number):
            A = Lora(rank, nn.Linear(6, 4, dtype=torch.float64, device="meta"), 20.0).lora_A.detach().numpy()
        engine = Engine(LORA, rank, declared.gamma(rank), 6, 4)
        expected = observe(declared.setting, engine, declared.problem, {"B": None, "A": A[None].copy()}, lr=declared.lr, draws=1)
        # The base layer's output is added and taken off: some hundred roundings of numbers of size one, on an update of 1e-2.
        np.testing.assert_allclose(seen.values[number], expected.values[0], rtol=1e-10)
    assert not seen.vanishes and seen.diverged is None


@pytest.mark.statistical
def test_in_law_equal_to_the_gram_engine():
    mine = _module(optimizer="sgd", steps=2).sample(3, "law", 150).values
    theirs = sampler_for(_task(setting(LORA, "alpha/sqrt(r)", steps=2)), "gram").sample(3, "law", 4000).values
    assert stats.ks_2samp(mine, theirs).pvalue > RATE
    forgets = _module(lambda rank, base, alpha: Lora(rank, base, alpha, power=1.0), optimizer="sgd", steps=2)
    assert stats.ks_2samp(forgets.sample(3, "law", 150).values, theirs).pvalue < RATE


def test_zero_at_init_epsilon_and_overflow():
    found = _module(quantity="output", steps=0).sample(3, "zero", 3)
    assert found.vanishes and not found.values.any()
    assert 0 < _module(optimizer="adamw").sample(3, "typical", 1).typical < np.inf
    assert 2 <= _module(optimizer="sgd", steps=9, lr=1e60).sample(3, "overflow", 2).diverged < 9


def test_repeatable_and_torch_left_alone():
    sampler = _module(optimizer="adamw")
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    values = sampler.sample(4, "same", 6).values
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(sampler.sample(4, "same", 3).values, values[:3])
    assert len(np.unique(values)) == 6


class Singular(Lora):
    """A factory that looks at the base weight's numbers."""

    def __init__(self, rank, base, alpha):
        super().__init__(rank, base, alpha)
        _, values, right = torch.linalg.svd(base.weight)
        self.kept = float(values[0])
        with torch.no_grad():
            self.lora_A.copy_(right[:rank])


def test_a_factory_that_looks_at_numbers_is_judged_too():
    assert np.isfinite(_module(Singular).sample(3, "svd", 2).values).all()


def _trains_base(rank, base, alpha):
    module = Lora(rank, base, alpha)
    base.requires_grad_(True)
    return module


def _own_randomness(rank, base, alpha):
    module = Lora(rank, base, alpha)
    with torch.no_grad():
        module.lora_A += torch.from_numpy(np.random.default_rng().standard_normal(module.lora_A.shape))
    return module


def test_refusals():
    with pytest.raises(InputError, match="trained too"):
        _module(_trains_base).sample(3, "x", 1)
    with pytest.raises(InputError, match="torch's generator"):
        _module(_own_randomness).sample(3, "x", 1)
    with pytest.raises(InputError, match="no parameter requires"):
        _module(lambda rank, base, alpha: base.requires_grad_(False)).sample(3, "x", 1)
    with pytest.raises(InputError, match=r"'C', which is not a trained parameter.*lora_A"):
        _module(quantity="gradient:C").sample(3, "x", 1)
    with pytest.raises(InputError, match="lr_ratio is for the up-factor"):
        _module(lambda *a: nn.Sequential(Lora(*a), Lora(3, nn.Linear(4, 4), 1)), optimizer="sgd:lr_ratio=2").sample(3, "x", 1)
    with pytest.raises(InputError, match="draws=0"):
        _module().sample(3, "x", 0)
    with pytest.raises(BudgetError, match="bytes"):
        _module(budget=Budget(bytes=10**6)).sample(2**16, "x", 1)
    with pytest.raises(BudgetError, match="one draw at rank"):
        _module().sample(2**30, "x", 1)


@pytest.mark.statistical
def test_estimate_takes_a_factory():
    found = estimate(Lora, "alpha/sqrt(r)", ranks=(4, 16, 64), d_in=4, d_out=3, budget=Budget(draws=120), statistic="projection")
    assert found.engine == "dense, module" and found.claim.init == "as built" and found.claim.adapter == "Lora"
    # The projection's mean is gamma**2 lr r |x|**2 / d_in = alpha**2 lr = 0.4 at every rank; false at a rate of 3e-6.
    assert all(point.lo < 0.4 < point.hi for point in found.curve)
    with pytest.raises(InputError, match="leave it at auto"):
        estimate(Lora, "alpha/sqrt(r)", ranks=(4, 16), engine="gram")


class Still(Lora):
    """The same, with nothing drawn: its first factor is rows of the base weight."""

    def __init__(self, rank, base, alpha):
        super().__init__(rank, base, alpha)
        self.lora_A = nn.Parameter(base.weight.detach()[torch.arange(rank) % base.out_features].clone())


def test_fresh_draws_show_a_spread_where_the_module_draws_nothing():
    chosen = module_setting(Still, "alpha/sqrt(r)")
    same, fresh = (ModuleSampler(_task(chosen), Still, renewed).sample(3, "pilot", 12).values for renewed in (False, True))
    assert np.ptp(same) == 0 and len(set(fresh)) == 12
    again = ModuleSampler(_task(chosen), Still, True).sample(3, "pilot", 12).values
    assert np.array_equal(fresh, again)


def test_fresh_data_is_for_any_target():
    assert estimate("lora", "alpha/r", ranks=[4, 8], fresh=True, budget=Budget(draws=400)).engine.endswith("fresh data")
    found = estimate(Still, "alpha/sqrt(r)", ranks=[2, 4], d_in=6, d_out=4, fresh=True, budget=Budget(draws=64))
    assert found.engine == "dense, module" and "x_norm2" not in found.data


def test_torch_is_loaded_only_when_a_module_is_judged():
    code = (
        "import sys; from rsverify.montecarlo import estimate; from rsverify.montecarlo.module.sampler import ModuleSampler; "
        "estimate('lora', 'alpha/r', ranks=(4, 8, 16), d_in=4, d_out=3); "
        "sys.exit(str([m for m in ('torch', 'sympy', 'scipy.stats', 'matplotlib') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
