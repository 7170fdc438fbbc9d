"""Where cells run: this process, local processes, or a dask cluster; anything else with an Executor can be handed in.

MPI: `mpi4py.futures.MPIPoolExecutor()` is an Executor and is handed to `run_sweep` as it is, under
`mpiexec -n 8 python -m mpi4py.futures script.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from rsverify.errors import InputError, refuse_no_workers, suggest
from rsverify.sweep.cells import one_thread

KINDS = ("processes", "serial", "dask")


class SerialExecutor(Executor):
    """Runs each call in the caller, when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def refuse_executor(kind: str, scheduler: str | None) -> None:
    """Refuse a kind that is not known, dask without a scheduler, and a scheduler without dask.

    Raises: InputError.
    """
    if kind not in KINDS:
        raise InputError(f"executor={kind!r} is not known{suggest(kind, KINDS)}")
    if (scheduler is not None) != (kind == "dask"):
        raise InputError(f"executor={kind!r}, scheduler={scheduler!r}: dask needs --scheduler tcp://host:port, and nothing else takes it")


@contextmanager
def open_executor(kind: str = "processes", *, workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """An executor by name, closed at the end.

    Args: kind is `processes`, `serial` or `dask`; workers defaults to the number of cores; scheduler is the address of a
        dask scheduler, e.g. tcp://head:8786.
    Raises: InputError for an unknown kind, no workers, a missing library, or a scheduler that cannot be reached.
    """
    refuse_no_workers(workers)
    refuse_executor(kind, scheduler)
    if kind == "serial":
        yield SerialExecutor()
    elif kind == "dask":
        assert scheduler is not None
        with _dask(scheduler) as executor:
            yield executor
    else:
        import multiprocessing

        # Spawned, not forked: a forked child of a process that has run torch threads can hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=context, initializer=_start_worker)
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    one_thread()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Ends this worker when the process that started it is gone: an orphan would run a cell beside the one that resumes it."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _dask(scheduler: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise InputError("executor='dask' needs dask.distributed: pip install 'rsverify[distributed]'") from None
    try:
        client = Client(scheduler, timeout="5s", set_as_default=False)
    except (OSError, ValueError) as error:
        cure = "is it running, and does this machine reach it?"
        raise InputError(f"scheduler={scheduler!r} cannot be reached ({type(error).__name__}: {error}); {cure}") from None
    try:
        # pure=False: a cell is a call, not a value that dask may take from its cache.
        yield client.get_executor(pure=False)
    finally:
        client.close()
