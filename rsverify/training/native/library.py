"""A library of the kernels that may be loaded: out of the cache, or compiled anew, tried in a process of its own, and kept.

A library for another processor would end the process at its first instruction that this one lacks. So a new one says, without being run,
which of the processor's features it was compiled for, and then runs every kernel once in a child. A cache can be shared between machines:
the processor is part of a library's name there.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rsverify.training.native import compiler, store
from rsverify.training.native.compiler import NoLibrary

TRIAL_SECONDS = 20.0
TRIAL = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).rsv_trial())"


@dataclass(frozen=True)
class Library:
    """A loaded library; `remark` says why it had to be compiled for this process alone, where it had to."""

    loaded: ctypes.CDLL
    remark: str | None = None


def library(real: str, *, march: str, name: str | None) -> Library:
    """The kernels of a real type for a processor, by the compiler of that name or any.

    Raises: NoLibrary with the reason where there is none that runs here.
    """
    reasons: list[str] = []
    for path in compiler.compilers(name):
        try:
            return _library_by(path, real=real, march=march)
        except NoLibrary as error:
            reasons.append(str(error))
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{path}: {error}")
    raise NoLibrary("; ".join(reasons))


def _library_by(path: str, *, real: str, march: str) -> Library:
    name = f"rsverify-{_key(path, march)}-{real}"
    remark, place = None, None
    try:
        place = store.folder()
        kept = store.find(place, name)
        if kept is not None:
            with contextlib.suppress(OSError, NoLibrary):  # what does not load is compiled anew
                return Library(_load(kept))
    except NoLibrary as error:
        remark = str(error)
    own = Path(tempfile.mkdtemp(prefix="rsverify-"))  # this process's own: a name that others know would let them plant a library
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    built = own / f"{name}.so"
    compiler.compile_library(path, march=march, real=real, to=built)
    _try(built, path)
    if place is not None:
        try:
            built = store.keep(built, place, name)
        except OSError as error:
            remark = f"the cache folder {place} cannot be written ({error.strerror})"
    return Library(_load(built), remark and f"the kernels were compiled for this run alone, which takes some seconds: {remark}")


def _load(path: Path) -> ctypes.CDLL:
    """Raises: OSError where it cannot be loaded, NoLibrary where it is for another processor."""
    loaded = ctypes.CDLL(str(path))
    lacking = missing(features(loaded), of_processor())
    if lacking:
        raise NoLibrary(f"{path} was compiled for another processor: this one has no {', '.join(lacking)}")
    return loaded


def _try(path: Path, by: str) -> None:
    """In a child first: what a broken compiler wrote can end the process that loads it."""
    try:
        if sys.executable and not getattr(sys, "frozen", False):
            compiler.run([sys.executable, "-I", "-S", "-c", TRIAL, str(path)], seconds=TRIAL_SECONDS)
    except NoLibrary as error:
        raise NoLibrary(f"what {by} made does not run on this processor ({error})") from None


def features(loaded: ctypes.CDLL) -> frozenset[str]:
    """What of a processor a library was compiled to use, read without running anything of it."""
    try:
        text = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(loaded, "rsv_features")))
    except ValueError:
        raise NoLibrary("the library does not say what it was compiled for") from None
    return frozenset(text.decode("ascii", errors="replace").split())


MACHINES = {"x86": ("x86_64", "AMD64", "i386", "i686"), "arm": ("aarch64", "arm64")}


def missing(needed: frozenset[str], there: frozenset[str]) -> list[str]:
    """What a library needs and the processor has not; nothing where the system does not tell what it has."""
    other = [kind for kind, names in MACHINES.items() if kind in needed and platform.machine() not in names]
    return other or sorted(needed - {*MACHINES, "other"} - there if there else ())


def of_processor() -> frozenset[str]:
    """The processor's features as Linux tells them; nothing where no system tells."""
    for row in processor().splitlines():
        if row.startswith(("flags", "Features")):
            return frozenset(row.partition(":")[2].split())
    return frozenset()


def processor() -> str:
    """What a kept library must not outlive: the processor's name and features, as far as the system tells them."""
    try:
        rows = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(row for row in rows if row.startswith(("model", "flags", "Features", "CPU part", "vendor_id")))


def _key(path: str, march: str) -> str:
    """A hash of what a library depends on: sources, flags, compiler, and the processor whose instructions it uses."""
    digest = hashlib.sha256()
    for source in sorted(compiler.HERE.glob("*.[ch]")):
        digest.update(source.read_bytes())
    parts = (compiler.version(path), " ".join(compiler.FLAGS), march, platform.machine(), processor())
    digest.update("\0".join(parts).encode())
    return digest.hexdigest()[:16]
