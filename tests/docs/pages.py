"""The pages of the documentation, taken apart: fenced blocks, shell lines, names in back quotes, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HISTORY = {"DECISIONS.md", "CHANGELOG.md"}
"""Pages that tell of what was: names in their prose need not exist any more."""

EXTENDING = "EXTENDING.md"
"""A page whose blocks have a test of their own."""

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+) -->\n+ *$")
QUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and why it is not run (empty if it is)."""

    page: Path
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yields the fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        marked = NOT_RUN.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        inside = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(page, line, found[2], inside, marked[1] if marked else "")


def of_language(language: str) -> list[Block]:
    """Returns the blocks of all pages that are in a language and can run."""
    pages = [page for page in PAGES if page.name != EXTENDING]
    return [b for page in pages for b in blocks(page) if b.language == language and not b.reason]


def prose(page: Path) -> str:
    """Returns a page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
