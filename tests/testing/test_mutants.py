"""Mutants are what they claim: many, of distinct causes and sources, each with a sound partner and a change that a real model feels."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.conformance import check_adapter
from rsverify.testing.mutants import mutants
from rsverify.testing.mutants.cures import Cure, cures
from rsverify.testing.mutants.reference import LORA, SOUND
from rsverify.testing.mutants.registry import FAMILIES
from rsverify.testing.mutants.scenarios import effect, stirred

ALL = mutants()
NOTES = Path(__file__).parents[2] / "docs" / "research"


def test_there_are_enough_of_every_family() -> None:
    count = Counter(mutant.family for mutant in ALL.values())
    assert sum(count.values()) >= 60 and set(count) == set(FAMILIES) and min(count.values()) >= 15


def test_causes_and_code_are_distinct() -> None:
    assert len({mutant.cause for mutant in ALL.values()}) == len(ALL)
    wrong = {name: mutant.wrong for name, mutant in ALL.items()}
    assert len(set(wrong.values())) == len(wrong)


def test_distinct_cures_are_enough_and_each_mutant_has_one() -> None:
    """A line is known by where it stands: written in two ways, or under two places, it would still be one."""
    found = cures()
    assert set(found) == set(ALL)
    assert len({found[name].spot() for name in ALL}) == len({found[name] for name in ALL}) >= 40


def test_a_line_that_nobody_wrote_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 0 lines"):
        Cure("rescaled", "m.slot.s *= float(s)").spot()


@pytest.mark.parametrize("name", ALL)
def test_every_source_is_one_that_was_opened(name: str) -> None:
    """Thread addresses stand in the notes of those who read them; a defect seen by running has its letter there."""
    source = ALL[name].source
    address = re.search(r"https://github\.com/(\S+?)/(issues|pull)/(\d+)", source)
    if address:
        bugs = (NOTES / "bugs.md").read_text(encoding="utf-8")
        assert address[0] in bugs or f"/{address[2]}/{address[3]}" in bugs
    elif letter := re.fullmatch(r"docs/research/peft_defects\.md, ([A-Z]\d+)", source):
        assert re.search(rf"\b{letter[1]}\b", (NOTES / "peft_defects.md").read_text(encoding="utf-8"))
    else:
        assert source.startswith("no thread found")


@pytest.mark.training
@pytest.mark.parametrize("name", ALL)
def test_every_mutant_changes_a_real_models_function(name: str) -> None:
    """By far more than rounding in float64, which is what two sound ways of computing would differ by."""
    assert ALL[name].changed() > 1e-9


def test_a_sound_adapter_changes_nothing() -> None:
    """The other side of the measure: against itself, and against the same computation in another order."""
    assert effect(LORA.subject(), LORA.subject(), stirred) == 0
    reordered = LORA.but(delta=lambda m, slot, W: (slot.A.T @ (m.kit.gamma(m, slot) * slot.B.T)).T).subject()
    assert effect(reordered, LORA.subject(), stirred) < 1e-12


@pytest.mark.parametrize("name", SOUND)
def test_no_check_fails_a_sound_partner(name: str) -> None:
    results = check_adapter(SOUND[name].subject(), on_fail="return")
    assert [(r.name, r.reason) for r in results if r.status not in ("passed", "skipped")] == []


@pytest.mark.parametrize("name", SOUND)
def test_sound_partners_are_the_textbooks(name: str) -> None:
    """The added weight against a formula written here once more, in numpy's letters, at a rank that equals no width and no alpha."""
    kit, rank, alpha = SOUND[name], 3, 20.0
    base = torch.nn.Linear(6, 8, dtype=torch.float64)
    W = base.weight.detach().clone()
    torch.manual_seed(0)
    module = kit.subject().build(rank, base, alpha)
    for parameter in module.slot.parameters():  # type: ignore[union-attr,operator]
        torch.nn.init.normal_(parameter)
    f = {key: value.detach().numpy() for key, value in module.slot.factors().items()}  # type: ignore[union-attr,operator]
    W0 = W.numpy()
    root, whole = alpha / 3**0.5, alpha / 3
    expected = {
        "lora": lambda: root * f["B"] @ f["A"],
        "lora-dropout": lambda: root * f["B"] @ f["A"],
        "lora-bias": lambda: root * f["B"] @ f["A"],
        "lora-fa": lambda: whole * f["B"] @ f["A"],
        "dora": lambda: _rows(W0 + whole * f["B"] @ f["A"], f["m"]) - W0,
        "pissa": lambda: root * (f["B"] @ f["A"] - f["B0"] @ f["A0"]),
        "fused": lambda: np.vstack([root * f["B_q"] @ f["A_q"], 1.5 * alpha / 6**0.5 * f["B_v"] @ f["A_v"]]),
        "experts": lambda: root * (0.7 * f["B"][0] @ f["A"][0] + 0.3 * f["B"][1] @ f["A"][1]),
        "kronecker": lambda: whole * _kron(f["C"], f["P"] @ f["Q"]),
        "qkv": lambda: np.vstack([root * f["B_q"] @ f["A_q"], np.zeros((2, 6)), 1.5 * alpha / 6**0.5 * f["B_v"] @ f["A_v"]]),
        "lokr": lambda: whole * _kron(f["w1"], f["w2"]),
        "lokr-lycoris": lambda: _kron(f["w1"], f["w2"]),
    }[name]()
    eye = torch.eye(6, dtype=torch.float64)
    found = (module.eval()(eye) - module(0 * eye)).T - W
    assert torch.allclose(found, torch.as_tensor(expected), rtol=0, atol=1e-12)


def _rows(matrix, lengths):
    return matrix / (matrix**2).sum(1, keepdims=True) ** 0.5 * lengths[:, None]


def _kron(C, D):
    rows, columns = D.shape
    return np.array([[C[i // rows, j // columns] * D[i % rows, j % columns] for j in range(6)] for i in range(8)])
