"""A sweep as a process of its own, to be killed: driver.py JOURNAL LOG CELLS SECONDS."""

import sys
from pathlib import Path

from rsverify.sweep import Cell, Identity, Journal, open_executor, run_sweep

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    journal, log, count, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    cells = [Cell("sweep_functions:logged", {"number": k, "log": log, "seconds": seconds}) for k in range(count)]
    with Journal(journal, Identity("kill")) as kept, open_executor("processes", workers=2) as executor:
        outcomes = run_sweep(cells, journal=kept, executor=executor)
    assert [outcome.result for outcome in outcomes] == [k**2 for k in range(count)]
