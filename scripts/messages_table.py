"""Writes the list of messages in docs/troubleshooting.md from the pages in that folder; ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import made_part

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
OF_MESSAGES = re.compile(r"\| (message|line|words in it) \|")  # the first column of a table that lists messages
BEGINS = re.compile(r"(`[^`]+`(,\s|\sor\s)?)+")  # what a paragraph about messages begins with
SOURCE = re.compile(r"\.py:\d")  # where a message of others is made
LONGEST = 60  # characters
FEWEST = 2  # words by which a message can be recognized


def beginnings(text: str) -> Iterator[str]:
    """The first words of each message in a cell or paragraph, without what Markdown needs around them."""
    for _, code in re.findall(r"(`+)(.+?)\1", text):
        words = code.strip().replace("`", "")
        if len(words) > LONGEST:
            words = f"{words[: LONGEST - 3].rpartition(' ')[0].rstrip(' .,:;(')} ..."
        if len(re.findall(r"[A-Za-z]{2,}", words)) >= FEWEST and not SOURCE.search(words):
            yield words


def rows(page: Path) -> Iterator[str]:
    """One line for each message of a page, with a link to its section."""
    link = f"{page.parent.name}/{page.name}"
    section, anchor = "", ""
    for paragraph in page.read_text(encoding="utf-8").split("\n\n"):
        told: list[str] = []
        if heading := re.match(r"#+ (.+)", paragraph):
            section = heading[1]
            anchor = re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-")
            anchor = "" if paragraph.startswith("# ") else f"#{anchor}"
        elif OF_MESSAGES.match(paragraph):
            told = [line.split("|")[1] for line in paragraph.splitlines()[2:]]
        elif begins := BEGINS.match(paragraph):
            told = [begins[0]]
        for words in (words for text in told for words in beginnings(text)):
            yield f"| `{words}` | [{section}]({link}{anchor}) |"


def main() -> int:
    """Write or check the list, in the order of the pages."""
    pages = re.findall(r"^troubleshooting/[\w-]+$", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    found = dict.fromkeys(row for name in pages for row in rows(INDEX.parent / f"{name}.md"))
    head = "| message | explained in |\n|---|---|\n"
    return made_part.put(INDEX, "messages", head + "".join(f"{row}\n" for row in found), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
