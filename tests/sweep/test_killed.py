"""A sweep killed at fifty random moments loses no finished cell and runs none twice."""

import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from rsverify.statistics.streams import stream

KILLS = 50
CELLS = 60
DRIVER = Path(__file__).parent / "driver.py"


def finished(journal: Path) -> set[int]:
    """Numbers of the cells that the journal holds, read as another program would."""
    if not journal.exists():
        return set()
    database = sqlite3.connect(journal)
    try:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        results = [int(result) for (result,) in database.execute("SELECT result FROM cells")] if "cells" in tables else []
    finally:
        database.close()
    assert len(set(results)) == len(results)
    return {round(result**0.5) for result in results}


def started(log: Path, driver: int) -> Counter[int]:
    """How often the workers of one driver began each cell."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return Counter(int(number) for number, _, parent in lines if int(parent) == driver)


def workers(log: Path) -> set[int]:
    return {int(line.split()[1]) for line in log.read_text().splitlines()}


def running(pid: int) -> bool:
    """Whether a worker lives; one that only waits to be reaped does not, nor does another program that got its number."""
    try:
        if b"multiprocessing" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def test_fifty_kills(tmp_path):
    moments = stream(0, "tests", "sweep", "kills")
    kills, partial, completed = 0, 0, 0
    while kills < KILLS or completed == 0:
        journal, log = tmp_path / f"{completed}.sqlite", tmp_path / f"{completed}.log"
        before = finished(journal)
        process = subprocess.Popen([sys.executable, str(DRIVER), str(journal), str(log), str(CELLS), "0.02"])
        if kills < KILLS:
            # One in four while it starts; the others some time after its first cell began, however slow the machine is today.
            if moments.uniform() > 0.25:
                while not started(log, process.pid) and process.poll() is None:
                    time.sleep(0.005)
            time.sleep(float(moments.uniform(0.0, 0.6)))
            process.kill()
        code = process.wait()
        after, again = finished(journal), started(log, process.pid)
        assert before <= after, "a finished cell was lost"
        assert not before & again.keys(), "a finished cell was run again"
        assert max(again.values(), default=1) == 1, "one run worked on a cell twice"
        if code == 0:
            assert after == set(range(CELLS))
            completed += 1
        else:
            assert code == -9, "the driver failed by itself"
            kills += 1
            partial += bool(after - before) and len(after) < CELLS
    # The moments were worth something: kills fell while cells were being finished.
    assert partial >= 5
    pids = {pid for k in range(completed + 1) if (tmp_path / f"{k}.log").exists() for pid in workers(tmp_path / f"{k}.log")}
    for _ in range(100):  # the last kill may have been a moment ago
        if not any(running(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert not [pid for pid in pids if running(pid)], "a worker outlived its driver"
