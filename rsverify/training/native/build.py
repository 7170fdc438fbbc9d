"""The kernels compiled by the machine's own C compiler, kept in the user's cache, and loaded.

`-march=native`: a cache is for one processor, so that its features are part of the file's name. Never `-ffast-math`: a configuration
that diverges must show NaN. Multiply-adds may be fused; sums keep their order, so that equal inputs give equal numbers on one machine.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
FLAGS = [
    "-O3", "-march=native", "-fPIC", "-shared", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fwrapv",
]  # fmt: skip
SWITCH = "RSVERIFY_NATIVE"
"""Environment variable: `off` trains on torch's products alone."""

REALS = {torch.float32: "float", torch.float64: "double"}
C_REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
SECONDS = 120.0
"""After which a compiler that hangs is given up."""


class Factor(ctypes.Structure):
    """`rsv_factor` of linear.h."""

    _fields_ = [("trained", ctypes.c_int64), *((name, ctypes.c_void_p) for name in ("w", "g", "m", "s", "lr"))]


class Part(ctypes.Structure):
    """`rsv_part` of linear.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("lo", "hi", "rank", "merged", "stride")),
        *((name, ctypes.c_void_p) for name in ("gamma", "kept", "adam")),
        ("A", Factor),
        ("B", Factor),
    ]  # fmt: skip


class Kernels:
    """The kernels of one dtype. `call` makes a kernel and its arguments into what `Program` runs; `size` asks for a number of REALs."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.library, self.dtype = library, dtype

    def call(self, name: str, *given: Any) -> tuple[Any, tuple[Any, ...]]:
        """A function and its arguments as C takes them: tensors by address, None as NULL, ints as int64, flags as int, floats as REAL."""
        return getattr(self.library, f"rsv_{name}"), tuple(self._as_c(value) for value in given)

    def size(self, name: str, *given: int) -> int:
        function = getattr(self.library, f"rsv_{name}")
        function.restype = ctypes.c_int64
        return int(function(*(ctypes.c_int64(value) for value in given)))

    def _as_c(self, value: Any) -> Any:
        if value is None or isinstance(value, torch.Tensor):
            return ctypes.c_void_p(None if value is None else value.data_ptr())
        if isinstance(value, bool):
            return ctypes.c_int(value)
        if isinstance(value, int):
            return ctypes.c_int64(value)
        return C_REALS[self.dtype](value) if isinstance(value, float) else value


def kernels(dtype: torch.dtype) -> Kernels | None:
    """The kernels of a dtype; None where they are switched off, there are none for it, or `why_not` says why."""
    if not _wanted(dtype):
        return None
    library = _library(REALS[dtype])
    return Kernels(library, dtype) if isinstance(library, ctypes.CDLL) else None


def why_not(dtype: torch.dtype) -> str | None:
    """Why the kernels that were wanted cannot be had, as a note for a run; None where they are, or were not wanted."""
    if not _wanted(dtype) or kernels(dtype) is not None:
        return None
    return f"trained by torch's products alone, which is slower: {_library(REALS[dtype])}"


def _wanted(dtype: torch.dtype) -> bool:
    return dtype in REALS and os.environ.get(SWITCH, "").lower() not in ("off", "0", "no")


@cache
def _library(real: str) -> ctypes.CDLL | str:
    """The loaded library, or the reason why there is none."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return f"no C compiler was found ({', '.join(COMPILERS)}); install one, or set {SWITCH}=off to be told no more"
    name = f"rsverify-{_key(compiler)}-{real}.so"
    reason = ""
    for folder in (_cache, _own):
        try:
            path = folder() / name
            if not path.exists():
                _compile(compiler, real, path)
            return ctypes.CDLL(str(path))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = str(getattr(error, "stderr", None) or error)
    return f"{compiler} gave no library that loads ({reason.strip()[-300:]})"


def _cache() -> Path:
    """The user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache"))
    return Path(root) / "rsverify"


def _own() -> Path:
    """A new folder of this process's own, where the cache cannot be written: a name that others know would let them plant a library."""
    folder = tempfile.mkdtemp(prefix="rsverify-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _key(compiler: str) -> str:
    """A hash of what the library depends on: sources, flags, compiler, and the processor whose instructions it uses."""
    found = hashlib.sha256()
    for path in sorted(HERE.glob("*.[ch]")):
        found.update(path.read_bytes())
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=SECONDS, check=False).stdout
    found.update(b"\0".join([version, " ".join(FLAGS).encode(), platform.machine().encode(), _processor().encode()]))
    return found.hexdigest()[:16]


def _processor() -> str:
    """What a cached library must not outlive: the processor's name and features, as far as the system tells them."""
    try:
        rows = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(row for row in rows if row.startswith(("model", "flags", "Features", "CPU part", "vendor_id")))


def _compile(compiler: str, real: str, path: Path) -> None:
    """Into a file beside, then moved in one piece: processes that start together each find a whole library or none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        subprocess.run(
            [compiler, *FLAGS, f"-DREAL={real}", str(HERE / "kernels.c"), "-o", str(built), "-lm"],
            check=True, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        os.replace(built, path)
