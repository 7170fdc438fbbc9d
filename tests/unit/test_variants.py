"""Every declared variant, held against plain loops and closed forms written here."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import rsverify as rv
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import NotDerivable
from rsverify.montecarlo.dense.naive import NaiveAdapter
from rsverify.statistics.streams import stream
from rsverify.training.adapters.contraction import AdapterModule, draw_factors

NAMES = (
    "lora", "lora-fa", "dora", "pissa", "olora", "vera", "adalora", "lora-xs", "loha", "loha-lycoris", "lokr", "lokr-lycoris",
    "hira", "randlora", "miss", "delora", "fourierft", "moe-lora",
)  # fmt: skip
R, D_IN, D_OUT = 2, 6, 4


def multilinear() -> list[rv.Adapter]:
    return [a for a in rv.adapters().values() if isinstance(a, rv.Adapter)]


def wrapped() -> list[WrappedAdapter]:
    return [a for a in rv.adapters().values() if isinstance(a, WrappedAdapter)]


def test_every_name_of_the_design_is_found():
    assert set(NAMES) <= set(rv.adapters())


@pytest.mark.parametrize("name", NAMES)
def test_each_says_where_it_comes_from_and_what_its_rank_counts(name):
    adapter = rv.adapters()[name]
    assert adapter.name == name and adapter.source and adapter.counts
    assert rv.ScalingRule(adapter.rule).gamma(4, 20.0) > 0


def naive_weight(name: str, f: dict[str, np.ndarray], r: int, d_in: int, d_out: int) -> np.ndarray:
    """The added weight at gamma = 1, entry by entry, from the formulas in PEFT's source."""
    found = np.zeros((d_out, d_in))
    for o in range(d_out):
        for i in range(d_in):
            if name in ("lora", "lora-fa"):
                value = sum(f["B"][o, k] * f["A"][k, i] for k in range(r))
            elif name == "vera":
                value = f["b"][o] * sum(f["B"][o, k] * f["d"][k] * f["A"][k, i] for k in range(r))
            elif name == "adalora":
                value = sum(f["B"][o, k] * f["E"][k] * f["A"][k, i] for k in range(r))
            elif name == "lora-xs":
                value = sum(f["B"][o, j] * f["R"][j, k] * f["A"][k, i] for j in range(r) for k in range(r))
            elif name in ("loha", "loha-lycoris"):
                one = sum(f["W1a"][o, k] * f["W1b"][k, i] for k in range(r))
                value = one * sum(f["W2a"][o, k] * f["W2b"][k, i] for k in range(r))
            elif name in ("lokr", "lokr-lycoris"):
                value = np.kron(f["w1"], f["W2a"] @ f["W2b"])[o, i]
            elif name == "hira":
                value = f["W"][o, i] * sum(f["B"][o, k] * f["A"][k, i] for k in range(r))
            elif name == "randlora":
                bases = range(math.ceil(min(d_in, d_out) / r))
                value = sum(f["B"][o, n, k] * f["L"][n, k] * f["A"][k, i] * f["G"][n, i] for n in bases for k in range(r))
            elif name == "miss":
                value = f["D"][i % r, o]
            else:
                assert name == "moe-lora"
                value = sum(f["g"][e] * f["B"][e, o, k] * f["A"][e, k, i] for e in range(4) for k in range(r))
            found[o, i] = value
    return found


@pytest.mark.parametrize("adapter", multilinear(), ids=lambda a: a.name)
def test_the_expression_is_the_formula(adapter):
    rng = stream(0, "variants", adapter.name)
    shapes = adapter.shapes(R, D_IN, D_OUT)
    drawn = draw_factors(adapter, rank=R, d_in=D_IN, d_out=D_OUT, seed=0, draw=0, layer="")
    # Constant patterns (miss's ones) keep their value: they are algebra, not parameters.
    factors = {n: rng.standard_normal(s) if n in adapter.trainable or n == "W" else drawn[n] for n, s in shapes.items()}
    expected = naive_weight(adapter.name, factors, R, D_IN, D_OUT)
    module = AdapterModule(adapter, {n: torch.from_numpy(v) for n, v in factors.items()}, gamma=1.0, rank=R, d_in=D_IN, d_out=D_OUT)
    x = rng.standard_normal((3, D_IN))
    np.testing.assert_allclose(module.delta().detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), x @ expected.T, rtol=1e-12, atol=1e-13)
    loops = NaiveAdapter(adapter.expression, adapter.axis_sizes(R, D_IN, D_OUT), tuple(adapter.laws), 1.0)
    np.testing.assert_allclose(loops.output(factors, list(x[0]), D_OUT), expected @ x[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("adapter", multilinear(), ids=lambda a: a.name)
def test_only_lora_xs_adds_anything_at_init(adapter):
    drawn = draw_factors(adapter, rank=R, d_in=D_IN, d_out=D_OUT, seed=0, draw=0, layer="")
    weight = naive_weight(adapter.name, drawn, R, D_IN, D_OUT)
    assert weight.any() == (adapter.name == "lora-xs")


@pytest.mark.parametrize("adapter", wrapped(), ids=lambda a: a.name)
def test_a_wrapped_adapter_starts_as_the_base_and_is_derived_to_leading_order_alone(adapter):
    W = torch.from_numpy(stream(0, "variants", "W").standard_normal((D_OUT, D_IN)))
    drawn = {}
    if adapter.core.name.startswith("lora"):
        values = draw_factors(rv.adapters()["lora"], rank=R, d_in=D_IN, d_out=D_OUT, seed=0, draw=0, layer="")
        drawn = {name: torch.from_numpy(value) for name, value in values.items()}
    factors, base = adapter.start(W, drawn, gamma=2.5, rank=R)
    torch.testing.assert_close(adapter.weight(base, factors, gamma=2.5, rank=R), W, rtol=1e-13, atol=1e-14)
    assert sum(factors[name].numel() for name in adapter.trainable) == adapter.parameters(R, D_IN, D_OUT)
    assert adapter.reason
    assert not rv.derive(adapter.name, "alpha/r").exact  # to leading order in lr alone


def test_dora_keeps_the_row_lengths_and_only_those():
    dora, W = rv.adapters()["dora"], torch.from_numpy(stream(0, "variants", "W").standard_normal((D_OUT, D_IN)))
    rng = stream(0, "variants", "dora")
    f = {n: torch.from_numpy(rng.standard_normal(s)) for n, s in {"B": (D_OUT, R), "A": (R, D_IN), "m": (D_OUT,)}.items()}
    found = dora.weight(W, f, gamma=0.3, rank=R).numpy()
    for o in range(D_OUT):
        row = W[o].numpy() + 0.3 * f["B"][o].numpy() @ f["A"].numpy()
        np.testing.assert_allclose(found[o], f["m"][o].item() * row / math.sqrt(sum(row**2)), rtol=1e-12)
    assert torch.isfinite(dora.weight(torch.zeros_like(W), {**f, "B": f["B"] * 0}, gamma=0.3, rank=R)).all()


def test_delora_and_fourierft_by_their_formulas():
    W = torch.from_numpy(stream(0, "variants", "W").standard_normal((D_OUT, D_IN)))
    rng = stream(0, "variants", "delora")
    A, B = rng.standard_normal((R, D_IN)), rng.standard_normal((D_OUT, R))
    delora = rv.adapters()["delora"]
    factors, base = delora.start(W, {"A": torch.from_numpy(A), "B": torch.from_numpy(B)}, gamma=7.5, rank=R)
    lengths = [math.sqrt(sum(A[k] ** 2) * sum(B[:, k] ** 2)) for k in range(R)]
    columns = [math.sqrt(sum(W[:, i].numpy() ** 2)) for i in range(D_IN)]
    expected = sum(15.0 / R * np.outer(B[:, k], A[k]) / lengths[k] for k in range(R)) * np.asarray(columns)
    np.testing.assert_allclose((delora.weight(base, factors, gamma=7.5, rank=R) - W).numpy(), expected, rtol=1e-12)

    fourier = rv.adapters()["fourierft"]
    factors, base = fourier.start(W, {}, gamma=150.0, rank=3)
    c = rng.standard_normal(3)
    wave = np.zeros((D_OUT, D_IN))
    for value, place in zip(c, factors["places"].tolist(), strict=True):
        for o in range(D_OUT):
            for i in range(D_IN):
                angle = 2 * math.pi * ((place // D_IN) * o / D_OUT + (place % D_IN) * i / D_IN)
                wave[o, i] += 150.0 * value * math.cos(angle) / (D_IN * D_OUT)
    found = fourier.weight(base, {**factors, "c": torch.from_numpy(c)}, gamma=150.0, rank=3) - W
    np.testing.assert_allclose(found.numpy(), wave, rtol=1e-10, atol=1e-12)


def test_pissa_takes_the_principal_part_and_olora_the_qr_product():
    W = torch.from_numpy(stream(0, "variants", "W").standard_normal((D_OUT, D_IN)))
    factors, base = rv.adapters()["pissa"].start(W, {}, gamma=2.5, rank=R)
    values = np.linalg.svd(W.numpy(), compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(base.numpy(), compute_uv=False)[: len(values) - R], values[R:], rtol=1e-10)
    np.testing.assert_allclose(2.5 * (factors["A"] @ factors["A"].T).numpy(), np.diag(values[:R]), atol=1e-10)
    factors, base = rv.adapters()["olora"].start(W, {}, gamma=2.5, rank=R)
    np.testing.assert_allclose((factors["B"].T @ factors["B"]).numpy(), np.eye(R), atol=1e-12)
    assert float(factors["A"][1, 0].abs()) < 1e-12, "A is upper triangular: rows of R"


def test_outside_packages_register_by_entry_point(tmp_path):
    """A temporary distribution on sys.path, with one sound entry, one that cannot be loaded and one that is no adapter."""
    (tmp_path / "mine.py").write_text("import rsverify as rv\nmine = rv.adapters\nlola = rv.Adapter('lola', 'o r, r i -> o i', ")
    with (tmp_path / "mine.py").open("a") as file:
        file.write("B=rv.Zero(), A=rv.Gaussian(std=1), source='here')\nnumber = 3\n")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rsverify.adapters]\nlola = mine:lola\nbroken = nowhere:x\nnumber = mine:number\n")
    code = f"""
        import sys, warnings
        sys.path.insert(0, {str(tmp_path)!r})
        import rsverify as rv
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert "lola" in rv.adapters() and "broken" not in rv.adapters() and "number" not in rv.adapters()
        assert len(said) == 2 and "nowhere" in str(said[0].message) and "is int" in str(said[1].message), said
        print(rv.derive("lola", "alpha/sqrt(r)").exponent)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"


def test_a_wrapped_adapter_can_be_registered(monkeypatch):
    from rsverify.definitions import registry

    monkeypatch.setattr(registry, "_added", {})
    dora = rv.adapters()["dora"]
    registry.register(dora)
    with pytest.raises(NotDerivable):
        as_adapter("dora")
