"""Files from outside are bounded and named where wrong; what is written is whole; a folder has one writer."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from rsverify.errors import InputError
from rsverify.files import writing
from rsverify.files.locks import InUse, one_writer
from rsverify.files.reading import read_bytes, read_json, read_object, read_text
from rsverify.files.writing import writable_folder, write_whole


def test_a_file_is_written_under_the_users_mask(tmp_path):
    path = tmp_path / "a.json"
    before = os.umask(0o027)
    try:
        write_whole(path, "whole\n")
    finally:
        os.umask(before)
    assert path.read_text() == "whole\n" and path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_planted_link_is_not_written_through(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "results.json"
    victim.write_text("mine")
    path.symlink_to(victim)
    write_whole(path, "result")
    assert victim.read_text() == "mine" and path.read_text() == "result" and not path.is_symlink()


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_of_before(tmp_path, monkeypatch, where):
    path = tmp_path / "results.json"
    path.write_text("before")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, where, full)
    with pytest.raises(InputError, match="results=.* cannot be written .No space left on device.; what stood there before is kept"):
        write_whole(path, "after", name="results")
    monkeypatch.undo()
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_as_it_is():
    script = "from rsverify.files.writing import write_whole; write_whole('/dev/stdout', 'shown')"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "shown"
    with pytest.raises(InputError, match="No space left"):
        write_whole("/dev/full", "x" * 100)


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        writable_folder(tmp_path / "file")


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "is a pipe"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.write_bytes(b"x" * 101), "is larger than 100 bytes"),
        (lambda path: path.write_bytes(b"\xff\xfe{"), "is not UTF-8 .byte 0xff at 0."),
        (lambda path: None, "No such file"),
        (lambda path: path.write_text("{"), "is not JSON"),
        (lambda path: path.write_text("[" * 40 + "]" * 40), "holds a list"),
        (lambda path: path.write_text('{"r": 1, "r": 2}'), "'r' is given twice"),
        (lambda path: path.write_text(""), "is not JSON"),
    ],
)
def test_what_is_no_plain_file_of_json_is_refused(tmp_path, make, message):
    path = tmp_path / "config.json"
    make(path)
    with pytest.raises(InputError, match=message):
        read_object(path, name="config", expected="an object", limit=100)


def test_a_deep_file_and_a_null_byte_are_refused(tmp_path):
    (tmp_path / "deep").write_text("[" * 200_000)
    with pytest.raises(InputError, match="nested too deep|is not JSON"):
        read_json(tmp_path / "deep", name="config", expected="JSON")
    with pytest.raises(InputError, match="is no path"):
        read_bytes("a\0b", name="config", expected="JSON")


def test_a_byte_order_mark_is_no_content(tmp_path):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(tmp_path / "text", name="text", expected="a text") == "abc"


def test_a_folder_has_one_writer(tmp_path):
    script = (
        "import sys, pathlib\nfrom rsverify.files.locks import one_writer\n"
        "with one_writer(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(InUse, match="being written by another process"), one_writer(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with one_writer(tmp_path):  # the system frees it when its holder dies
        pass


def places(data, at=()):
    """Every place of a JSON value."""
    yield at
    if isinstance(data, dict):
        for key, value in data.items():
            yield from places(value, (*at, key))
    elif isinstance(data, list):
        for i, value in enumerate(data[:2]):
            yield from places(value, (*at, i))


def put(data, at, value):
    """A copy with another value at a place; DELETED takes the place away."""
    copy = json.loads(json.dumps(data))
    here = copy
    for key in at[:-1]:
        here = here[key]
    if value is DELETED:
        del here[at[-1]]
    else:
        here[at[-1]] = value
    return copy


DELETED = object()
STRANGE = (None, True, -1, 10**400, 1e308, float("nan"), "", "\x1b[2J", "9" * 5000, "1/0", [], [[]], {}, {"a": 1}, DELETED)


def test_no_field_of_a_result_breaks_the_reader():
    """Each place of a whole result, each strange value: the reader gives a verdict or refuses in its own words."""
    from rsverify.report.results import as_results, checksum, from_results
    from rsverify.studies.verify import verify

    verdict = verify("lora", ["alpha/r"], optimizers=["sgd"], quick=True, ranks=[4, 8])
    data = json.loads(json.dumps(as_results(verdict)))
    assert from_results({**data, "checksum": checksum(data)}) == verdict
    data["rows"] = data["rows"][:1]
    messages = []
    for at in places(data):
        for value in STRANGE if at else ():
            try:
                from_results(put(data, at, value))
            except InputError as error:
                messages.append(str(error))
    assert len(messages) > 500 and max(map(len, messages)) < 500


def test_a_changed_result_is_refused(tmp_path):
    from rsverify.report.results import read_results, write_results
    from rsverify.studies.verify import verify

    path = tmp_path / "results.json"
    verdict = verify("lora", ["alpha/r"], optimizers=["sgd"], quick=True, ranks=[4, 8])
    write_results(verdict, path)
    assert read_results(path) == verdict
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(InputError, match="changed or damaged"):
        read_results(path)
