"""The dense engine for any torch module: a factory is asked for a fresh layer at each draw, and only that layer's numbers are used.

torch is imported when a module is judged, not before: nothing else of this witness needs it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.laws import Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.rules import ScalingRule
from rsverify.definitions.targets import Build
from rsverify.errors import InputError
from rsverify.montecarlo.dense.sampler import ARRAYS
from rsverify.montecarlo.gram.numbers import reduced
from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.samplers import Sample, Sampler, Task, check_draws, joined
from rsverify.montecarlo.updates import State, apply_step
from rsverify.records import Claim
from rsverify.statistics.streams import stream

_UP = re.compile(r"(^|[._])B($|[._])")
Arrays = dict[str, np.ndarray]


def module_setting(
    build: Build, rule: ScalingRule | str | Callable[[int, float], float], *, name: str = "", optimizer: Optimizer | str = "sgd",
    quantity: str = "update", statistic: str = "rms", probe: str = "aligned", steps: int = 1, regime: str = "rank",
) -> Setting:  # fmt: skip
    """The setting of a claim about what a factory builds; its adapter stands for the added weight, whatever that is made of.

    Args: rule is the one that the module claims to follow: the module applies its own. quantity may be
        `gradient:<parameter>`, by the parameter's name in the module.
    """
    name = name or str(getattr(build, "__name__", type(build).__name__))
    unknown = Adapter(name, "o i -> o i", rank_axes=(), W=Zero(), counts="as the module counts", note="a module, as built")
    factor = quantity if quantity.startswith("gradient:") else ""
    found = setting(
        unknown, rule, optimizer=optimizer, quantity="gradient_norm" if factor else quantity, statistic=statistic, probe=probe,
        steps=steps, regime=regime,
    )  # fmt: skip
    return replace(found, claim=replace(found.claim, init="as built", quantity=quantity))


@dataclass(frozen=True)
class ModuleSampler(Sampler):
    """Any module that a factory builds, one draw at a time, in float64; its draws come from torch's own generator.

    The base layer is the same for every draw and rank; `output` is measured against its weight as it was handed over. Cost and
    memory are the module's own. A factory that draws from anything but torch's generator is not repeatable, and is refused.
    With `fresh` every draw has a base layer, sample and signal of its own: the answer is then about layers at large, not about one.
    """

    task: Task
    build: Build
    fresh: bool = False
    name = "dense, module"

    def entries(self, rank: int) -> int:
        return sum(p.numel() for p in self._planned(rank).parameters())

    def bytes_per_draw(self, rank: int) -> int:
        """Parameters, all that a step makes of them, two copies of the base layer."""
        module, base = self._planned(rank), self._base()
        held = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
        samples = self.task.problem.x[0].size
        return 8 * (ARRAYS * held + 2 * base.weight.numel() + 8 * samples * sum(base.weight.shape))

    def sample(self, rank: int, phase: str, draws: int) -> Sample:
        with _one_thread():
            return self._sampled(rank, phase, draws)

    def _sampled(self, rank: int, phase: str, draws: int) -> Sample:
        check_draws(draws)
        budget = self.task.budget
        budget.check_work(self.entries(rank), rank=rank)
        budget.chunk(self.bytes_per_draw(rank), 1, rank=rank)
        first = self._draw(rank, phase, 0)
        if not np.array_equal(first.values, self._draw(rank, phase, 0).values, equal_nan=True):
            raise InputError(
                f"{self.task.setting.adapter.name}: two modules built under one seed differ at rank {rank}; expected every draw to "
                "come from torch's generator, e.g. torch.randn(...) rather than numpy or random"
            )
        return joined(rank, [first, *(self._draw(rank, phase, number) for number in range(1, draws))])

    def _base(self) -> Any:
        import torch

        d_in, d_out = len(self.task.problem.x), len(self.task.problem.v)
        bound = d_in**-0.5  # as nn.Linear draws it
        weight = stream(self.task.seed, "module", "base").uniform(-bound, bound, (d_out, d_in))
        base = torch.nn.Linear(d_in, d_out, bias=False, dtype=torch.float64, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            base.weight.copy_(torch.from_numpy(weight))
        return base

    def _planned(self, rank: int) -> Any:
        """The module without its numbers where the factory allows it: sizes are known before memory is spent."""
        import torch

        with self._seeded("plan", rank, 0):
            try:
                with torch.device("meta"):
                    return self.build(rank, self._base().to("meta"), self.task.alpha)
            except Exception:  # a factory that looks at numbers, e.g. at singular vectors; its own errors come again below
                return self.build(rank, self._base(), self.task.alpha)

    def _seeded(self, phase: str, rank: int, number: int) -> AbstractContextManager[None]:
        return _torch_seed(int(stream(self.task.seed, "module", phase, rank, number).integers(2**62)))

    def _draw(self, rank: int, phase: str, number: int) -> Sample:
        import torch

        here = self._renewed(phase, rank, number) if self.fresh else self
        base = here._base()
        with self._seeded(phase, rank, number):
            handed = copy.deepcopy(base)
            module = self.build(rank, handed, self.task.alpha).double()
            trained = {key: p for key, p in module.named_parameters() if p.requires_grad}
            self._check(trained, handed)
            run = _Run(here.task, module, base, trained)
            with torch.enable_grad():
                return run.sample(rank)

    def _renewed(self, phase: str, rank: int, number: int) -> ModuleSampler:
        """This sampler on a problem and a base layer of that draw's own."""
        old = self.task.problem
        seed = int(stream(self.task.seed, "module", "fresh", phase, rank, number).integers(2**62))
        samples = 1 if old.x.ndim == 1 else old.x.shape[1]
        problem = make_problem(seed, d_in=len(old.x), d_out=len(old.v), cosine=self.task.setting.claim.cosine, samples=samples)
        return replace(self, task=replace(self.task, problem=problem, seed=seed))

    def _check(self, trained: Mapping[str, Any], base: Any) -> None:
        name = self.task.setting.adapter.name
        if any(p is base.weight for p in trained.values()):
            raise InputError(f"{name}: the base layer's weight is trained too; expected a frozen base: base.requires_grad_(False)")
        if not trained:
            raise InputError(f"{name}: no parameter requires a gradient; expected the adapter's own to")
        ups = [key for key in trained if _UP.search(key)]
        if self.task.setting.optimizer.option("lr_ratio") != 1.0 and len(ups) != 1:
            raise InputError(
                f"{name}: lr_ratio is for the up-factor, and {ups or 'none'} of its parameters {list(trained)} is called B; expected one"
            )
        factor = self.task.setting.claim.factor
        if factor is not None and factor not in trained:
            raise InputError(f"{name}: gradient of {factor!r}, which is not a trained parameter; trained are {list(trained)}")


@dataclass
class _Run:
    """One module in training on the problem; numpy arrays have one leading axis, the draw."""

    task: Task
    module: Any
    base: Any
    trained: Mapping[str, Any]

    def sample(self, rank: int) -> Sample:
        claim, optimizer = self.task.setting.claim, self.task.setting.optimizer
        start = self._now()
        before, first = self._output(), self._gradients()
        ups = tuple(key for key in self.trained if _UP.search(key))
        state: State = {}
        diverged = None
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(1, claim.steps + 1):
                gradients = first if t == 1 else self._gradients()
                moved = apply_step(
                    optimizer, self._now(), {key: g.copy() for key, g in gradients.items()}, state, t=t, lr=self.task.lr, ups=ups
                )
                self._set({key: moved[key] for key in self.trained})
                if diverged is None and not all(np.isfinite(w).all() for w in self._now().values()):
                    diverged = t
            value, vanishes = self._value(claim, start, before, first)
        if diverged is None and not np.isfinite(value).all() and not (claim.statistic == "log" and value[0] == -np.inf):
            diverged = claim.steps
        return Sample(rank, value, vanishes, self._typical(first) if claim.steps else np.inf, diverged)

    def _value(self, claim: Claim, start: Arrays, before: np.ndarray, first: Arrays) -> tuple[np.ndarray, bool]:
        problem = self.task.problem
        if claim.quantity == "gradient_norm" or claim.factor:
            chosen = self._gradients()
            chosen = {claim.factor: chosen[claim.factor]} if claim.factor else chosen
            total = np.asarray([sum(float((g * g).sum()) for g in chosen.values())])
            return reduced(claim, total, None, chosen[claim.factor].size if claim.factor else 1), not total.any()
        if claim.quantity == "loss_decrease":
            now = self._now()
            decrease = np.asarray([-sum(float((first[key] * (now[key] - start[key])).sum()) for key in first)])
            return reduced(claim, decrease**2, decrease, 1), not decrease.any()
        v, x = (a.reshape(len(a), -1) for a in (problem.v, problem.x))
        if claim.quantity == "input_gradient":
            y, along = self._input_gradient(), x / np.linalg.norm(x, axis=0)
        else:
            y, along = self._output() - (before if claim.quantity == "update" else 0.0), -v / np.linalg.norm(v, axis=0)
        component = np.asarray([(y * along).sum() / y.shape[1]])
        return reduced(claim, np.asarray([(y * y).sum()]), component, y.size), not y.any()

    def _typical(self, first: Arrays) -> float:
        if "eps" not in self.task.setting.optimizer.defaults:
            return np.inf
        return min((float(np.median(np.abs(g))) for g in first.values() if g.any()), default=np.inf)

    def _now(self) -> Arrays:
        return {key: p.detach().numpy().copy()[None] for key, p in self.trained.items()}

    def _set(self, values: Mapping[str, np.ndarray | None]) -> None:
        import torch

        with torch.no_grad():
            for key, value in values.items():
                if value is not None:
                    self.trained[key].copy_(torch.from_numpy(value[0]))

    def _rows(self, data: np.ndarray) -> Any:
        """Columns of the problem as the rows that a layer takes."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(data.reshape(len(data), -1).T))

    def _output(self) -> np.ndarray:
        """What the adapter adds at the probes, (d_out, n)."""
        import torch

        with torch.no_grad():
            probes = self._rows(self.task.problem.x_probe)
            return (self.module(probes) - self.base(probes)).numpy().T

    def _gradients(self) -> Arrays:
        import torch

        loss = (self.module(self._rows(self.task.problem.x)) * self._rows(self.task.problem.v)).sum()
        found = torch.autograd.grad(loss, list(self.trained.values()), allow_unused=True, materialize_grads=True)
        return {key: g.detach().numpy().copy()[None] for key, g in zip(self.trained, found, strict=True)}

    def _input_gradient(self) -> np.ndarray:
        import torch

        x = self._rows(self.task.problem.x).requires_grad_(True)
        loss = ((self.module(x) - self.base(x)) * self._rows(self.task.problem.v)).sum()
        return torch.autograd.grad(loss, x)[0].numpy().T


class _one_thread(AbstractContextManager[None]):
    """torch on one thread, and on as many as before afterwards: a layer of these sizes is too small to share."""

    def __enter__(self) -> None:
        import torch

        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *exception: object) -> None:
        import torch

        torch.set_num_threads(self._before)


class _torch_seed(AbstractContextManager[None]):
    """torch's generator at a seed, and as it was afterwards."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        import torch

        self._before = torch.random.get_rng_state()
        torch.default_generator.manual_seed(self.seed)  # torch.manual_seed also walks every accelerator: ten times the cost

    def __exit__(self, *exception: object) -> None:
        import torch

        torch.random.set_rng_state(self._before)
