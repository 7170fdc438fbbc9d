"""The two corpora: what is in them, what is held out, and that nothing held out was read in training."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from functools import cache

import pytest

from rsverify.training.model.text import Corpus, english, source, strip_source

english, source = cache(english), cache(source)


def test_english_is_english_of_the_size_that_pretraining_needs() -> None:
    corpus = english()
    size = len(corpus.train) + len(corpus.held_out)
    assert 1_500_000 < size < 4_000_000
    words = corpus.held_out.decode("utf-8", errors="ignore").lower().split()
    assert sum(word in {"the", "a", "is", "of", "to", "and"} for word in words) > len(words) / 12


def test_source_is_code_of_the_size_that_fine_tuning_needs() -> None:
    corpus = source()
    size = len(corpus.train) + len(corpus.held_out)
    assert corpus.name == "sympy-source" and 1_900_000 < size < 3_000_000
    assert b"import" in corpus.train and b'"""' not in corpus.train[:200]


@pytest.mark.parametrize("corpus", [english, source], ids=["english", "source"])
def test_the_last_twentieth_is_held_out(corpus) -> None:
    found = corpus()
    whole = found.train + found.held_out
    assert len(found.held_out) == int(0.05 * len(whole))
    assert found.sha256 == hashlib.sha256(whole).hexdigest()


def test_a_corpus_is_the_same_when_read_again() -> None:
    assert english.__wrapped__().sha256 == english().sha256
    assert source.__wrapped__("rsverify").sha256 == source.__wrapped__("rsverify").sha256


def test_no_held_out_paragraph_was_trained_on() -> None:
    corpus = english()
    paragraphs = {part.strip() for part in corpus.held_out.split(b"\n\n")}
    paragraphs = {part for part in paragraphs if len(part) >= 80}
    assert len(paragraphs) > 100
    assert [part for part in paragraphs if part in corpus.train] == []


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(LookupError, match="package='no_such_package' is not installed"):
        source.__wrapped__("no_such_package")


CODE = '''"""Module."""
# comment
import os  # tail

class A:
    """Class
    text."""

    x = "# not a comment"

    def f(self):  # why
        "one line"
        y = """kept
        text"""
        return y

async def g(): "beside the colon"
def h(): "doc"; return 1
'''


def test_stripping_keeps_the_code_and_only_the_code() -> None:
    stripped = strip_source(CODE)
    assert stripped is not None
    assert stripped.splitlines() == [
        "import os",
        "class A:",
        '    x = "# not a comment"',
        "    def f(self):",
        '        y = """kept',
        '        text"""',
        "        return y",
        "async def g():",
        "def h(): return 1",
    ]


@pytest.mark.parametrize("code", ["def f(:", "x = '", "(", "\x00"])
def test_what_does_not_tokenize_is_left_out(code: str) -> None:
    assert strip_source(code) is None


def test_a_form_feed_does_not_shift_the_lines() -> None:
    assert (
        strip_source('x = 1\n\x0c\ny = "a\x0cb"\ndef f():\n    """doc"""\n    return 2\n') == 'x = 1\ny = "a\x0cb"\ndef f():\n    return 2'
    )


def test_no_comment_and_no_docstring_survives_in_real_code() -> None:
    """On sympy itself: by tokens no comment, and no docstring's text."""
    import importlib.util
    from pathlib import Path

    root = Path(importlib.util.find_spec("sympy").submodule_search_locations[0])
    for path in sorted(root.glob("core/*.py"))[::4]:
        code = path.read_text(encoding="utf-8")
        stripped = strip_source(code)
        assert stripped is not None
        tokens = list(tokenize.generate_tokens(io.StringIO(stripped).readline))
        assert not [token.string for token in tokens if token.type == tokenize.COMMENT], path.name
        documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        texts = [ast.get_docstring(node, clean=False) for node in ast.walk(ast.parse(code)) if isinstance(node, documented)]
        assert not [text for text in texts if text and len(text) > 30 and text in stripped], path.name


def test_a_corpus_of_any_text_loses_nothing() -> None:
    corpus = Corpus.from_text("t", "é" * 50)
    assert (corpus.train + corpus.held_out).decode() == "é" * 50 and len(corpus.held_out) == 5
