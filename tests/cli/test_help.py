"""Help: every verb is listed with its sentence, and its own help holds an example."""

import ast
from pathlib import Path

import pytest

import rsverify.cli
from rsverify.cli import VERBS, main

FOLDER = Path(rsverify.cli.__file__).parent


def shown(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_the_list_has_every_verb_with_its_sentence(capsys):
    text = shown(["--help"], capsys)
    for verb, line in VERBS.items():
        assert f"{verb} {line}" in text


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_does_and_shows_an_example(verb, capsys):
    tree = ast.parse((FOLDER / f"{verb}.py").read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == verb]
    assert (ast.get_docstring(function) or "").split("\n")[0] == VERBS[verb]
    text = shown([verb, "--help"], capsys)
    assert VERBS[verb] in text
    assert f"rsverify {verb}" in text.partition("Usage:")[2].partition("Example")[2]


def test_no_verb_is_forgotten():
    files = {path.stem for path in FOLDER.glob("*.py")}
    verbs = {
        name
        for name in files
        if any(isinstance(n, ast.FunctionDef) and n.name == name for n in ast.parse((FOLDER / f"{name}.py").read_text()).body)
    }
    assert verbs - {"__init__"} == set(VERBS)
