"""Sweeps: the same numbers on every engine, nothing finished is lost, what does not belong together is refused."""

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rsverify.errors import InputError, RsverifyError
from rsverify.sweep import Cell, Identity, Journal, SweepFailed, open_executor, run_sweep
from rsverify.sweep.journal import JournalError


@pytest.fixture(autouse=True)
def _functions(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def draws(count=6):
    return [Cell("sweep_functions:draw", {"name": f"cell {k}"}, seed=k) for k in range(count)]


def results(outcomes):
    return [outcome.result for outcome in outcomes]


def test_every_engine_gives_the_same_numbers():
    with open_executor("serial") as executor:
        expected = results(run_sweep(draws(), executor=executor))
    assert len({str(value) for value in expected}) == 6
    with open_executor("processes", workers=2) as executor:
        assert results(run_sweep(draws(), executor=executor)) == expected
    with ThreadPoolExecutor(3) as executor:
        assert results(run_sweep(draws(), executor=executor)) == expected


def test_a_dask_cluster_gives_the_same_numbers():
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed; it comes with the extra distributed")
    with open_executor("serial") as executor:
        expected = results(run_sweep(draws(), executor=executor))
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        open_executor("dask", scheduler=cluster.scheduler_address) as executor,
    ):
        assert results(run_sweep(draws(), executor=executor)) == expected


def test_a_scheduler_that_cannot_be_reached_is_refused():
    pytest.importorskip("distributed", reason="dask.distributed is not installed; it comes with the extra distributed")
    with pytest.raises(InputError, match="cannot be reached"), open_executor("dask", scheduler="tcp://127.0.0.1:9"):
        pass


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("proceses", {}, "did you mean 'processes'"),
        ("processes", {"workers": 0}, "workers=0"),
        ("dask", {}, "needs --scheduler"),
        ("serial", {"scheduler": "tcp://127.0.0.1:9"}, "nothing else takes it"),
    ],
)
def test_bad_executors_are_refused(kind, options, said):
    with pytest.raises(InputError, match=said), open_executor(kind, **options):
        pass


def test_a_second_run_reads_the_journal(tmp_path):
    log = tmp_path / "log"
    cells = [Cell("sweep_functions:logged", {"number": k, "log": str(log), "seconds": 0}) for k in range(5)]
    seen = []
    for expected_runs in (3, 5, 5):
        with Journal(tmp_path / "j.sqlite", Identity("squares")) as journal, open_executor("serial") as executor:
            outcomes = run_sweep(
                cells[:expected_runs], journal=journal, executor=executor, progress=lambda done, total, cell: seen.append((done, total))
            )
        assert results(outcomes) == [k**2 for k in range(expected_runs)]
        assert len(log.read_text().splitlines()) == expected_runs
    assert seen == [(1, 3), (2, 3), (3, 3), (4, 5), (5, 5)]
    assert all(outcome.resumed for outcome in outcomes)


def test_a_cell_that_raises_does_not_stop_the_others(tmp_path):
    cells = [Cell("sweep_functions:odd_ones_fail", {"number": k}) for k in range(6)]
    with Journal(tmp_path / "j.sqlite", Identity("odd")) as journal, open_executor("serial") as executor:
        with pytest.raises(SweepFailed, match=r"3 of 6 cells failed, the others are kept.*1 is odd") as caught:
            run_sweep(cells, journal=journal, executor=executor)
        assert len(journal.finished()) == 3
    assert [cell.configuration["number"] for cell, _ in caught.value.errors] == [1, 3, 5]


def test_a_result_that_is_not_json_is_a_failed_cell():
    with open_executor("serial") as executor, pytest.raises(SweepFailed, match="not plain JSON"):
        run_sweep([Cell("sweep_functions:not_a_number", {})], executor=executor)


def test_a_worker_that_dies_is_named(tmp_path):
    with (
        Journal(tmp_path / "j.sqlite", Identity("dies")) as journal,
        open_executor("processes", workers=1) as executor,
        pytest.raises(RsverifyError, match="a worker died"),
    ):
        run_sweep([Cell("sweep_functions:dies", {})], journal=journal, executor=executor)


def test_an_interruption_keeps_what_is_finished(tmp_path):
    def stop(done, total, cell):
        if done == 2:
            raise KeyboardInterrupt

    with Journal(tmp_path / "j.sqlite", Identity("stop")) as journal, open_executor("serial") as executor:
        with pytest.raises(KeyboardInterrupt):
            run_sweep(draws(), journal=journal, executor=executor, progress=stop)
        assert len(journal.finished()) == 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Identity("another"), "study: journal has mine, this run another"),
        (Identity("mine", {"ranks": [4, 16]}), r"setting ranks: journal has \[4, 8\], this run \[4, 16\]"),
        (Identity("mine", {"ranks": [4, 8]}, {"rsverify": "9.9"}), "version of rsverify"),
        (Identity("mine", {"ranks": [4, 8]}, commit="abc"), "commit: journal has None, this run abc"),
    ],
)
def test_a_journal_of_another_run_is_refused(tmp_path, other, said):
    Journal(tmp_path / "j.sqlite", Identity("mine", {"ranks": [4, 8]})).close()
    with pytest.raises(JournalError, match=said):
        Journal(tmp_path / "j.sqlite", other)
    Journal(tmp_path / "j.sqlite", Identity("mine", {"ranks": [4, 8]})).close()


def test_two_writers_are_refused(tmp_path):
    with Journal(tmp_path / "j.sqlite", Identity("one")), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path / "j.sqlite", Identity("one"))


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "j.sqlite").write_text("no database" * 100)
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "j.sqlite", Identity("one"))


def test_a_disk_that_fills_stops_cleanly_and_keeps_the_journal(tmp_path):
    cells = [Cell("sweep_functions:draw", {"name": "x" * 2000 + str(k)}) for k in range(50)]
    with Journal(tmp_path / "j.sqlite", Identity("full")) as journal, open_executor("serial") as executor:
        # The same answer that SQLite gives where the disk is full, without filling one.
        journal._database.execute("PRAGMA max_page_count=20")
        with pytest.raises(JournalError, match="free some space"):
            run_sweep(cells, journal=journal, executor=executor)
        kept = journal.finished()
    assert 0 < len(kept) < 50
    with Journal(tmp_path / "j.sqlite", Identity("full")) as journal, open_executor("serial") as executor:
        outcomes = run_sweep(cells, journal=journal, executor=executor)
    assert sum(outcome.resumed for outcome in outcomes) == len(kept)


def test_the_journal_can_be_read_while_it_is_written(tmp_path):
    def read(done, total, cell):
        other = sqlite3.connect(f"file:{tmp_path / 'j.sqlite'}?mode=ro", uri=True)
        assert other.execute("SELECT count(*) FROM cells").fetchone() == (done,)
        other.close()

    with Journal(tmp_path / "j.sqlite", Identity("read")) as journal, open_executor("serial") as executor:
        run_sweep(draws(3), journal=journal, executor=executor, progress=read)


@pytest.mark.parametrize(
    ("function", "said"),
    [("json", "expected package.module:name"), ("no.such:thing", "cannot be imported"), ("json:__doc__", "not a function")],
)
def test_functions_that_cannot_be_run_are_refused_before_work(function, said):
    with open_executor("serial") as executor, pytest.raises(InputError, match=said):
        run_sweep([*draws(1), Cell(function, {})], executor=executor)


def test_cells_are_told_apart_by_all_they_hold():
    one = Cell("json:dumps", {"a": 1, "b": 2}, 3)
    assert one.key == Cell("json:dumps", {"b": 2, "a": 1}, 3).key
    others = [Cell("json:loads", {"a": 1, "b": 2}, 3), Cell("json:dumps", {"a": 1, "b": 3}, 3), Cell("json:dumps", {"a": 1, "b": 2}, 4)]
    assert len({one.key, *(cell.key for cell in others)}) == 4
    with pytest.raises(InputError, match="not plain JSON"):
        Cell("json:dumps", {"a": float("nan")})
    with open_executor("serial") as executor, pytest.raises(InputError, match="twice"):
        run_sweep([one, one], executor=executor)


def test_the_room_loads_nothing_heavy():
    import subprocess

    code = "import rsverify.sweep, sys; print([m for m in ('torch', 'numpy', 'sympy', 'distributed') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
