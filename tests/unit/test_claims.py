"""Settings and headlines: what a claim's names stand for, and what cannot be asked."""

from __future__ import annotations

import numpy as np
import pytest

from rsverify.definitions.claims import HEADLINES, data_quantities, is_headline, setting
from rsverify.errors import InputError, RuleError, UnknownName
from rsverify.records import Claim


def test_a_setting_knows_the_objects_behind_its_names() -> None:
    found = setting(
        "lora",
        "rslora",
        optimizer="adamw:eps=1e-3",
        quantity="gradient:B",
        statistic="frobenius",
        probe="cosine:0.5",
        steps=0,
        regime="width",
    )
    assert found.claim == Claim(
        "lora",
        "B=zero, A=kaiming_uniform(fan_in=i)",
        "alpha/sqrt(r)",
        "adamw:eps=0.001",
        "gradient:B",
        "frobenius",
        "cosine:0.5",
        "width",
        0,
    )
    assert (found.adapter.name, found.rule.text, found.optimizer.name) == ("lora", "alpha/sqrt(r)", "adamw")
    assert setting(found.adapter, found.rule, optimizer=found.optimizer).claim.quantity == "update"


@pytest.mark.parametrize(
    ("changed", "error", "problem"),
    [
        ({"adapter": "lorra"}, UnknownName, "did you mean 'lora'"),
        ({"rule": "alpha/"}, RuleError, "does not parse"),
        ({"rule": "rslor"}, UnknownName, "did you mean 'rslora'"),
        ({"optimizer": "sdg"}, UnknownName, "did you mean 'sgd'"),
        ({"quantity": "gradient:C"}, UnknownName, "factor='C' is not known"),
        ({"quantity": "loss"}, InputError, "quantity='loss' is not known"),
        ({"quantity": "update", "steps": 0}, InputError, "at steps=0 is nothing by definition"),
        ({"quantity": "loss_decrease", "steps": 0}, InputError, "at steps=0 is nothing by definition"),
        ({"statistic": "mean"}, InputError, "statistic='mean'"),
        ({"probe": "parallel"}, InputError, "probe='parallel'"),
        ({"regime": "both"}, InputError, "regime='both'"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed, error, problem) -> None:
    arguments = {"adapter": "lora", "rule": "alpha/r", **changed}
    with pytest.raises(error, match=problem):
        setting(arguments.pop("adapter"), arguments.pop("rule"), **arguments)


def test_data_quantities_are_what_their_formulas_say() -> None:
    x, probe, v = np.array([1.0, 2.0, 2.0]), np.array([2.0, -1.0, 2.0]), np.array([3.0, -4.0])
    assert data_quantities(x, probe, v) == {
        "x_norm2": 9.0,
        "v_norm2": 25.0,
        "v_norm1": 7.0,
        "x_norm1": 5.0,
        "x_sign": 2.0 - 1 + 2,
        "cosine": pytest.approx(4 / 9),
        "S04": 16.0 + 1 + 16,
        "S13": 8.0 - 2 + 16,
        "S22": 4.0 + 4 + 16,
        "S31": 2.0 - 8 + 16,
        "S40": 1.0 + 16 + 16,
        "S10": 5.0, "S01": 3.0, "S30": 17.0, "S21": 2.0 - 4 + 8, "S12": 4.0 + 2 + 8, "S03": 15.0,
        "V1": -1.0, "V3": 27.0 - 64, "V4": 81.0 + 256,
    }  # fmt: skip
    assert data_quantities(x, probe, v, names=["S61"])["S61"] == 2.0 - 64 + 128


@pytest.mark.parametrize("headline", HEADLINES, ids=str)
def test_headlines_are_aligned_claims_of_one_step_or_init(headline) -> None:
    claim = Claim("lora", "", "alpha/r", "sgd", **headline)
    assert is_headline(claim)
    assert not is_headline(Claim("lora", "", "alpha/r", "sgd", **{**headline, "probe": "orthogonal"}))
    assert not is_headline(Claim("lora", "", "alpha/r", "sgd", **{**headline, "steps": 2}))
    assert not is_headline(Claim("lora", "", "alpha/r", "sgd", **{**headline, "statistic": "log"}))
