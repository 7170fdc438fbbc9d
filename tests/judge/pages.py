"""What every page that the clerk writes owes its reader, held in one place for all tests of pages."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br"}
"""Tags of our pages that have no end."""


def assert_stands_alone(page: str) -> None:
    """The page asks nothing of the network, runs nothing, and closes every tag that it opens, the last opened first."""
    assert (found := re.search(r"https?://|<script|<link|src=", page)) is None, found
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened and opened.pop() == tag, f"</{tag}> closes what is not open"

    Tags().feed(page)
    assert not opened, f"never closed: {opened}"
