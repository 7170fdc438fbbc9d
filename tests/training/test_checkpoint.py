"""An interrupted run goes on to the same numbers; a checkpoint of another run is refused with the difference named."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.errors import InputError
from rsverify.training.stack import checkpoint
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))

from test_stacked import MIXED, small_task

pytestmark = pytest.mark.training
SOME = [*MIXED[:4], Configuration(3, "alpha/r", optimizer="adafactor"), Configuration(2, "alpha/r", optimizer="muon")]


def stop_at(steps):
    sent: list[int] = []

    def report(found):
        if max(found.steps) >= steps and not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    return report


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only"))]
)
def test_goes_on_to_the_same_numbers(tmp_path, workers):
    whole = train_stacked(small_task(), SOME, steps=60, workers=1)
    path = tmp_path / "checkpoint.safetensors"
    first = train_stacked(small_task(), SOME, steps=60, workers=workers, checkpoint=path, report=stop_at(5), report_every=0)
    assert not first.complete
    again = train_stacked(small_task(), SOME, steps=60, workers=3 - workers, checkpoint=path)
    assert again.complete
    # Steps multiply a rounding; a few after the interruption half the digits stay.
    seen = max(first.steps) + 3
    np.testing.assert_allclose(again.loss[:, :seen], whole.loss[:, :seen], rtol=1e-8)
    np.testing.assert_allclose(again.gradient_norm[:, :5], whole.gradient_norm[:, :5], rtol=1e-10)
    done = train_stacked(small_task(), SOME, steps=60, checkpoint=path)
    np.testing.assert_array_equal(done.loss, again.loss)
    np.testing.assert_array_equal(done.output_rms, again.output_rms)


def test_a_finished_run_may_be_asked_for_more_steps(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train_stacked(small_task(), SOME, steps=2, checkpoint=path)
    longer = train_stacked(small_task(), SOME, steps=4, checkpoint=path)
    np.testing.assert_allclose(longer.loss, train_stacked(small_task(), SOME, steps=4).loss, rtol=1e-12)
    with pytest.raises(InputError, match="holds 4 steps, more than steps=3"):
        train_stacked(small_task(), SOME, steps=3, checkpoint=path)


@pytest.mark.parametrize(
    ("task", "configurations", "said"),
    [
        ({}, [Configuration(2, "alpha/r", lr=0.5), *SOME[1:]], r"configurations\[0\].lr=0.01 then, 0.5 now"),
        ({}, SOME[:2], "configurations: 6 then, 2 now"),
        ({"tokens": 7}, SOME, "task='2 x 9 bytes of letters' then, '2 x 7 bytes of letters' now"),
        ({"dtype": torch.float32}, SOME, "dtype='torch.float64' then, 'torch.float32' now"),
    ],
)
def test_another_run_is_refused(tmp_path, task, configurations, said):
    path = tmp_path / "checkpoint.safetensors"
    train_stacked(small_task(), SOME, steps=1, checkpoint=path)
    with pytest.raises(InputError, match=said):
        train_stacked(small_task(**task), configurations, steps=1, checkpoint=path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train_stacked(small_task(), SOME, steps=1, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        train_stacked(small_task(), SOME, steps=1, checkpoint=path)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    train_stacked(small_task(), SOME, steps=1, checkpoint=path)
    before = path.read_bytes()

    def full(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match="No space left on device.*the one before it is kept"):
        train_stacked(small_task(), SOME, steps=2, checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_left_out_is_seen(tmp_path, monkeypatch):
    """The mutant: a resume that forgets the running moments."""
    path = tmp_path / "checkpoint.safetensors"
    train_stacked(small_task(), SOME, steps=2, checkpoint=path)
    inner = checkpoint.Stack.row
    whole = train_stacked(small_task(), SOME, steps=4)
    monkeypatch.setattr(checkpoint.Stack, "row", lambda self, i: {k: v for k, v in inner(self, i).items() if not k.startswith("state.")})
    forgetful = train_stacked(small_task(), SOME, steps=4, checkpoint=path)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(forgetful.loss, whole.loss, rtol=1e-8)
