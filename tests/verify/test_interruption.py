"""Interrupting the training pass keeps the rows that were trained before."""

import pytest

import rsverify.training as training
from rsverify.report.results import read_results
from rsverify.studies import verify as study


@pytest.mark.training
def test_interruption_between_optimizers_keeps_the_first(monkeypatch, tmp_path):
    measure_all, calls = training.measure_all, []

    def interrupted(settings, **given):
        calls.append({s.optimizer.name for s in settings})
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure_all(settings, **given)

    monkeypatch.setattr(training, "measure_all", interrupted)
    monkeypatch.setattr(study, "_estimate_all", lambda *_: iter(()))
    with pytest.raises(KeyboardInterrupt):
        study.verify(ranks="4,8", optimizers=["sgd", "adamw"], out=tmp_path)
    verdict = read_results(tmp_path / "results.json")
    assert not verdict.complete
    assert calls == [{"sgd"}, {"adamw"}]
    measured = {row.claim.optimizer for row in verdict.rows if row.measured is not None}
    assert measured == {"sgd"}


@pytest.mark.training
def test_passes_by_optimizer_give_the_numbers_of_one_pass():
    from rsverify.definitions.claims import setting

    problem = training.fine_tuning_problem(tokens=16)
    asked = [setting("lora", "rslora", optimizer=o, quantity="loss_decrease") for o in ("sgd", "adamw")]
    together = training.measure_all(asked, problem=problem, ranks=(4, 8), draws=3)
    for one in asked:
        assert training.measure_all([one], problem=problem, ranks=(4, 8), draws=3)[one.claim] == together[one.claim]
