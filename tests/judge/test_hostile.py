"""Names, rules and sentences from a file are data: on a page, in a picture and on a terminal they run and restyle nothing."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from rich.console import Console

from rsverify.report.page import page
from rsverify.report.results import as_results, from_results
from rsverify.report.terminal import show

HOSTILE = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>$\\frac{[blink]'
BOUND = (
    "schema",
    "verdict",
    "stability",
    "agreement",
    "quantity",
    "statistic",
    "probe",
    "regime",
    "formula",
    "rule",
    "flat",
    "error_order",
)
"""Fields whose words are ours or parsed by a grammar; every other text of a result is whatever its author wrote."""


@pytest.fixture(scope="module")
def verdict():
    from rsverify.studies.verify import verify

    def hostile(data):
        if isinstance(data, dict):
            return {key: value if key in BOUND else hostile(value) for key, value in data.items()}
        if isinstance(data, list):
            return [hostile(value) for value in data]
        return data + HOSTILE if isinstance(data, str) and not re.fullmatch(r"-?\d+(/\d+)?|nan|-?inf", data) else data

    sound = verify("lora", ["alpha/r"], optimizers=["sgd"], quick=True, ranks=[4, 8, 16])
    return from_results(hostile(json.loads(json.dumps(as_results(sound)))))


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_a_page_of_a_hostile_result_has_no_element_of_it(verdict):
    text = page(verdict, command="rsverify verify" + HOSTILE)
    elements = Elements()
    elements.feed(text)
    assert "owned" in text
    assert not [
        tag for tag, attributes in elements.seen if tag in ("script", "img", "iframe") or any(name.startswith("on") for name in attributes)
    ]


def test_a_terminal_shows_it_as_it_is(verdict):
    shown = io.StringIO()
    show(verdict, Console(file=shown, width=4000, force_terminal=True))
    assert "[blink]" in shown.getvalue() and "\x1b[5m" not in shown.getvalue()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to render the page with")
def test_a_browser_runs_nothing_of_it(verdict, tmp_path):
    (tmp_path / "page.html").write_text(page(verdict, command=HOSTILE), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    dom = subprocess.run([*command, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", dom, re.S)
    assert title is not None and title[1].strip() != "owned"
