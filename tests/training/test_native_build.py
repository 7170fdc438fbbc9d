"""Which build serves, and that a compiler or a cache that is not to be trusted costs time, never a run or a process."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from native_builds import kernels_of
from test_stacked import MIXED, small_task

from rsverify.errors import InputError
from rsverify.training import train_stacked
from rsverify.training.native import build, choice, compiler, library, serve, store
from rsverify.training.native.build import Build
from rsverify.training.native.compiler import NoLibrary

pytestmark = pytest.mark.training

SMALL = 'const char rsv_features[] = "{features}";\nint rsv_trial(void) {{ {trial} }}\n'
"""A library that a fake compiler makes in place of the kernels', in a tenth of a second."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rsverify"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path):
    """Puts a shell script in the place of every compiler; `$to` is the file that it is to write, `real` makes the small library there."""
    path = os.environ["PATH"]
    real = compiler.find("cc") or compiler.find("gcc") or compiler.find("clang")
    if real is None:
        pytest.skip("needs a C compiler")

    def make(script: str, *, features: str = "", trial: str = "return 0;") -> None:
        (tmp_path / "small.c").write_text(SMALL.format(features=features, trial=trial))
        place = tmp_path / "bin"
        place.mkdir(exist_ok=True)
        lines = [
            "#!/bin/sh",
            '[ "$1" = --version ] && { echo fake; exit 0; }',
            'while [ $# -gt 0 ]; do [ "$1" = -o ] && to=$2; shift; done',
            f'real() {{ {real} -shared -fPIC {tmp_path}/small.c -o "$to"; }}',
            script,
        ]
        (place / "cc").write_text("\n".join(lines) + "\n")
        (place / "cc").chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join([str(place), path]))

    monkeypatch.setattr(compiler, "COMPILERS", ("cc",))
    return make


def made() -> library.Library:
    return library.library("float", march="native", name=None)


@pytest.mark.parametrize("text", ["nonsense", "x86-64-v9", "gcc:", ":native", "gcc:off", "icc:native", "native:gcc", "onn"])
def test_an_unknown_build_is_refused_with_what_there_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, text)
    with pytest.raises(InputError, match=f"RSVERIFY_NATIVE={text!r}; expected off, on, or .*: native.* also by one compiler, as gcc:"):
        train_stacked(small_task(known=False), MIXED[:2], steps=1)


def test_what_a_build_can_be() -> None:
    assert {Build.parse(text) for text in ("", "on", "1", "yes", "native", " Native ")} == {Build()}
    assert {Build.parse(text) for text in ("off", "OFF", "0", "no")} == {None}
    for name in build.PROCESSORS:
        assert Build.parse(name) == Build(name)
        assert Build.parse(f"clang:{name}") == Build(name, "clang")
        assert Build(name, "gcc").text == f"gcc:{name}"


@pytest.mark.skipif(not compiler.X86, reason="levels of x86-64")
def test_a_vector_is_as_wide_as_the_registers() -> None:
    for dtype, lanes in ((torch.float32, 4), (torch.float64, 2)):
        assert kernels_of(dtype, Build("x86-64-v2")).lanes == lanes
    there = library.of_processor()
    if there:
        wide = 64 if "avx512f" in there else 32 if "avx2" in there else 16
        assert kernels_of(torch.float32, Build()).lanes * 4 == wide


def test_without_a_compiler_a_note_says_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(build, "_make", build._make.__wrapped__)
    run = train_stacked(small_task(), MIXED[:2], steps=2)
    assert "no C compiler was found" in run.notes[0] and "RSVERIFY_NATIVE=off" in run.notes[0]
    assert run.complete
    monkeypatch.setenv(build.SWITCH, "off")
    assert build.remark(torch.float64) is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'cc: error: no such luck' >&2; echo more >&2; exit 1", "ended with code 1: cc: error: no such luck"),
        ("sleep 600 & sleep 600", r"given up after 0 s"),  # the child would hold a pipe open when its parent is gone
        ("kill -9 $$", "ended by signal 9"),
        ("exit 0", "ended well and wrote nothing"),
        ('echo text > "$to"', "does not run on this processor"),
        ('real; head -c 1500 "$to" > "$to.part"; mv "$to.part" "$to"', "does not run on this processor"),
    ],
)
def test_a_compiler_that_is_broken_is_told_with_its_reason(fake, script: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(script)
    if "sleep" in script:
        monkeypatch.setattr(compiler, "SECONDS", 0.2)
    with pytest.raises(NoLibrary, match=reason):
        made()


def test_a_compiler_without_a_version_is_a_reason_too(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("exit 0")
    place = Path(str(compiler.find("cc")))
    place.write_text("#!/bin/sh\nsleep 600\n")
    monkeypatch.setattr(compiler, "VERSION_SECONDS", 0.2)
    with pytest.raises(NoLibrary, match="given up"):
        made()


@pytest.mark.parametrize(
    ("features", "trial", "reason"),
    [
        ("x86 arm no_such_feature ", "return 0;", "was compiled for another processor: this one has no "),
        ("", "__builtin_trap();", "does not run on this processor .* was ended by signal"),
        ("", "return 1;", "does not run on this processor .* ended with code 1"),
        ("", "for (;;) ;", "given up"),
    ],
    ids=["features", "illegal instruction", "wrong result", "endless"],
)
def test_a_library_for_another_processor_is_not_run_here(fake, features: str, trial: str, reason: str, monkeypatch) -> None:
    monkeypatch.setattr(library, "TRIAL_SECONDS", 5.0 if "for" not in trial else 0.3)
    fake("real", features=features, trial=trial)
    with pytest.raises(NoLibrary, match=reason):
        made()


def test_features_are_read_and_compared() -> None:
    kernels = kernels_of(torch.float32, Build())
    needed, there = library.features(kernels.library), library.of_processor()
    assert needed & {"x86", "arm", "other"}
    assert library.missing(needed, there) == []
    if there and "x86" in needed:
        assert library.missing(needed | {"avx512er", "amx_tile"}, there - {"amx_tile"}) == ["amx_tile", "avx512er"]
    assert library.missing(needed | {"avx512er"}, frozenset()) == [], "where no system tells, the trial alone decides"


def test_a_library_is_compiled_once_and_found_again(fake, cache: Path) -> None:
    fake("real; echo compiled >> $to.log; cp $to.log " + str(cache.parent.parent / "log"))
    assert made().remark is None
    (kept,) = cache.iterdir()
    fake("exit 1")
    assert made().remark is None
    assert kept.stat().st_mode & 0o777 == 0o700 and cache.stat().st_mode & 0o777 == 0o700


def test_a_library_is_not_found_on_another_processor(fake, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder that machines share."""
    fake("real")
    made()
    monkeypatch.setattr(library, "processor", lambda: "flags: another\n")
    made()
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "one bit", "another's content", "writable", "a link", "a folder"])
def test_a_library_that_is_not_whole_or_not_ours_alone_is_compiled_anew(fake, cache: Path, damage: str, tmp_path: Path) -> None:
    """Loaded, the cut one would end this process, and the others would run what somebody else wrote."""
    fake("real")
    made()
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    changed = bytes([content[0] ^ 1]) + content[1:]
    if damage in ("cut", "one bit", "another's content"):
        kept.unlink()  # the file that this process has loaded stays as it is
        kept.write_bytes({"cut": content[:1500], "one bit": changed, "another's content": b"\x7fELF planted"}[damage])
        kept.chmod(0o700)
    elif damage == "writable":
        kept.chmod(0o777)
    else:
        kept.unlink()
        if damage == "a link":
            (tmp_path / "planted.so").write_bytes(content)
            kept.symlink_to(tmp_path / "planted.so")
        else:
            kept.mkdir()
    assert made().remark is None or damage == "a folder"
    if damage != "a folder":
        (again,) = cache.iterdir()
        assert again.read_bytes() == content and not again.is_symlink() and again.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("trouble", ["a file", "others may write", "a link to nowhere"])
def test_a_cache_that_cannot_be_used_is_done_without_and_told(fake, cache: Path, trouble: str) -> None:
    fake("real")
    cache.parent.mkdir()
    if trouble == "a file":
        cache.write_text("no folder")
    elif trouble == "others may write":
        cache.mkdir()
        cache.chmod(0o777)
    else:
        cache.symlink_to("nowhere")
    told = made().remark
    assert told is not None and "compiled for this run alone" in told and str(cache) in told
    assert trouble != "others may write" or not list(cache.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners")
def test_a_cache_of_another_user_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.folder()
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    with pytest.raises(NoLibrary, match="belongs to another user"):
        store.folder()


def test_only_absolute_places_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cc").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".:" + os.pathsep)
    assert shutil.which("cc") is not None and compiler.find("cc") is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder().is_absolute() and "relative" not in str(store.folder())


def test_one_working_compiler_is_enough(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("real")
    broken = Path(str(compiler.find("cc"))).with_name("gcc")
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(compiler, "COMPILERS", ("gcc", "cc"))
    assert made().remark is None
    with pytest.raises(NoLibrary, match="gcc ended with code 1"):
        library.library("float", march="native", name="gcc")


@pytest.mark.parametrize(
    ("features", "itemsize", "lanes", "used"),
    [
        ("avx512f avx2", 4, 16, True), ("avx512f avx2", 4, 8, True), ("avx512f avx2", 4, 4, False),
        ("avx2", 8, 4, True), ("avx2", 8, 2, False),
        ("sse4_2", 4, 4, True), ("asimd", 4, 4, True), ("", 4, 4, True),
    ],
)  # fmt: skip
def test_a_build_that_loses_at_a_width_is_not_used_there(features: str, itemsize: int, lanes: int, used: bool, monkeypatch) -> None:
    """By what the processor has, of which torch's products use all; up to the width at which a narrow build wins it serves everywhere."""
    monkeypatch.setattr(library, "of_processor", lambda: frozenset(features.split()))
    assert choice.is_faster(d=choice.NARROW, lanes=lanes, itemsize=itemsize)
    assert choice.is_faster(d=choice.NARROW + 1, lanes=lanes, itemsize=itemsize) is used


def test_the_rule_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_of(torch.float64)
    served = lambda: serve.decoder_for(small_task(), dtype=torch.float64) is not None  # noqa: E731
    assert served()
    monkeypatch.setattr(choice, "is_faster", lambda **given: False)
    assert not served()
