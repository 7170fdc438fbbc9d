"""Where cells run is named by the same flags in every verb that has them, and refused before work starts."""

from __future__ import annotations

import pytest

from rsverify import cli


@pytest.mark.parametrize("verb", ["atlas", "reproduce"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--executor", "dsk"), "did you mean 'dask'"),
        (("--executor", "dask"), "needs --scheduler"),
        (("--executor", "serial", "--scheduler", "tcp://127.0.0.1:1"), "nothing else takes it"),
        (("--workers", "0"), "workers=0"),
    ],
)
def test_what_cannot_run_is_refused(capsys, verb, words, message):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
