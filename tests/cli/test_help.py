"""Help: every verb is listed with its sentence, and its own help holds an example."""

import ast
import re
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
    assert f"rsverify {verb}" in text.partition("Usage:")[2].partition("xample")[2]


def test_no_verb_is_forgotten():
    files = {path.stem for path in FOLDER.glob("*.py")}
    verbs = {
        name
        for name in files
        if any(isinstance(n, ast.FunctionDef) and n.name == name for n in ast.parse((FOLDER / f"{name}.py").read_text()).body)
    }
    assert verbs - {"__init__"} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_no_options_nobody_needs_and_loses_no_placeholder(verb, capsys):
    """`--empty-rule`, `[default: ()]`; and `gradient:<factor>`, whose end Markdown takes for a tag."""
    text = shown([verb, "--help"], capsys)
    assert "--empty-" not in text and "default: ()" not in text and "default: False" not in text
    assert not re.search(r"\w:[,.] ", text.partition("Parameters")[2]), text


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"verify", "atlas", "prove", "reproduce"}))
def test_what_is_missing_is_named(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb])
    assert ended.value.code == 2
    assert re.search(rf"^rsverify: {verb} needs (--)?[A-Za-z_]+; `rsverify {verb} --help` shows examples$", capsys.readouterr().err.strip())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["derive", "lora", "--steps", "1.5"], "'1.5' is not a whole number"),
        (["derive", "lora", "--rule"], "--rule needs a value"),
        (["solve", "lora", "--out", "phases.doc"], "written as .svg"),
        (["parity", "."], "neither was given"),
        (["report", "nowhere"], "'nowhere"),
    ],
)
def test_messages_say_what_came(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_formula_names_what_its_letters_mean(capsys):
    with pytest.raises(SystemExit):
        main(["derive", "lora", "--rule", "alpha/r"])
    out = capsys.readouterr().out
    assert "S22 = sum over i of x_i**2 x'_i**2" in out and "|x|**2" in out
