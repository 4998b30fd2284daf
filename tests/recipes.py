"""What the pages tell people to type: blocks of shell by their first line, commands, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parent.parent
DOCS = TOP / "docs"
#: Pages that people copy from; those of decisions and figures are about the past.
PAGES = sorted([*DOCS.glob("*.md"), TOP / "README.md"])
_FENCED = re.compile(r"^```sh\n# (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}\S?.*\n|^\n(?= {4}))+", re.MULTILINE)


def shell_block(page: str, name: str) -> str:
    """Return the block of shell whose first line is ``# name``."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = {match["name"]: match["text"] for match in _FENCED.finditer(text)}
    return found[name]


def indented_blocks(text: str) -> Iterator[str]:
    """Yield what is indented by four, without the indentation."""
    for match in _INDENTED.finditer(text):
        yield re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of all code, those that go on in the next one joined."""
    fenced = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for block in [*indented_blocks(text), *fenced]:
        yield from block.replace("\\\n", " ").splitlines()


def dockreg_commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each ``dockreg`` that stands in the code of a page."""
    for line in code_lines(text):
        if "twistd" in line:
            continue  # there the name is that of the server
        words = shlex.shlex(line, posix=True, punctuation_chars="|;&()<>")
        words.whitespace_split = True
        try:
            split = list(words)
        except ValueError:
            continue  # no shell: JSON, TOML
        taken: list[str] | None = None
        for word in split:
            if taken is None:
                taken = [] if word.rpartition("/")[2] == "dockreg" else None
            elif set(word) <= set("|;&()<>"):
                yield taken
                taken = None
            else:
                taken.append(word)
        if taken is not None:
            yield taken
