"""The machine's own C compiler: found, bounded in time, and asked for a library of the kernels.

Never `-ffast-math`: a configuration that diverges must show NaN. Multiply-adds may be fused; sums keep their order, so that equal inputs
give equal numbers on one machine.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
X86 = platform.machine() in ("x86_64", "AMD64")
FLAGS = [
    "-O3", "-fPIC", "-shared", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fwrapv",
    *(["-mprefer-vector-width=512"] if X86 else []),  # clang cuts vectors of 64 bytes in two for some processors else
]  # fmt: skip
SECONDS = 60.0
"""After which a compiler that hangs is given up: several times what a slow machine takes."""
VERSION_SECONDS = 10.0


class NoLibrary(Exception):
    """Why there is no library, as the end of a sentence."""


def find(name: str) -> str | None:
    """The absolute path of a program, by those entries of PATH that are absolute: `.` would let any folder bring its own compiler."""
    places = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place)]
    return shutil.which(name, path=os.pathsep.join(places)) if places else None


def compilers(name: str | None) -> list[str]:
    """Those there are, each once: of that name, or all.

    Raises: NoLibrary where there is none.
    """
    names = (name,) if name else COMPILERS
    paths: dict[str, str] = {}
    for path in map(find, names):
        if path is not None:
            paths.setdefault(os.path.realpath(path), path)  # cc is a link to one of the others as a rule
    if not paths:
        raise NoLibrary(f"no C compiler was found ({', '.join(names)}); install one, or set RSVERIFY_NATIVE=off to be told no more")
    return list(paths.values())


def version(compiler: str) -> str:
    """What it says of itself; raises NoLibrary where it does not."""
    return run([compiler, "--version"], seconds=VERSION_SECONDS)


def compile_library(compiler: str, *, march: str, real: str, to: Path) -> None:
    """The kernels of one real type as a shared library.

    Raises: NoLibrary where the compiler fails or takes too long.
    """
    run([compiler, *FLAGS, f"-march={march}", f"-DREAL={real}", str(HERE / "kernels.c"), "-o", str(to), "-lm"], seconds=SECONDS)
    if not to.is_file():
        raise NoLibrary(f"{compiler} ended well and wrote nothing")


def run(command: Sequence[str], *, seconds: float) -> str:
    """What a program writes to its output; it and all that it started are ended after so many seconds.

    Raises: NoLibrary where it cannot be started, fails or takes longer.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:  # a pipe would wait for whatever a killed program started
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True)
        except OSError as error:
            raise NoLibrary(f"{command[0]} cannot be started ({error.strerror or error})") from None
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise NoLibrary(f"{command[0]} was given up after {seconds:.0f} s") from None
        finally:
            if process.poll() is None:
                _end(process)
        output.seek(0)
        errors.seek(0)
        if code != 0:
            reason = _reason(errors.read().decode(errors="replace"))
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise NoLibrary(f"{command[0]} {how}" + (f": {reason}" if reason else ""))
        return output.read().decode(errors="replace")


def _reason(text: str) -> str:
    """The first line that speaks of an error, or else the end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")[:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
