"""Which protocol of writing to disk a figure is about: totals of campaigns count for one version of it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from dockreg_tx.root import FORMAT_VERSION

_PACKAGE = Path(__file__).parents[2] / "dockreg_tx"
#: What writes to a root, and decides in which order. The memory twins write nothing, readers neither.
_WRITERS = (
    "blobs/*.py",
    "records/*.py",
    "records/schema/*.sql",
    "registry/collect.py",
    "preparation.py",
    "root.py",
    "root_locks.py",
)
_SILENT = ("memory", "reader", "cached", "inspection", "__init__")

#: Versions whose figures count for the one named: what came between are reads, or into how many calls the
#: bytes before a flush are cut. What is written, and in which order it gets to the disk, is the same; the
#: reason says how that can be seen.
SAME_WRITES = {
    "1-7493ec736c": (
        "1-9f3017a3d2",
        "a deletion finds the rows that it copies to the trash by id, not by going through the repository",
    ),
    "1-9f3017a3d2": (
        "1-e35d8e6836",
        "the bytes of a file are written 128 KiB at a time instead of 1 MiB, before the same flush",
    ),
}


def standing(written: str) -> str:
    """Return the version that figures of this version count for."""
    while written in SAME_WRITES:
        written, _ = SAME_WRITES[written]
    return written


def version() -> str:
    """Return the number of the root's format, and a hash of the code that writes.

    Comments, docstrings and layout of the code do not count.
    """
    running = hashlib.sha256()
    for path in _writers():
        running.update(f"{path.relative_to(_PACKAGE)}\0{_meaning(path)}\0".encode())
    return f"{FORMAT_VERSION}-{running.hexdigest()[:10]}"


def _writers() -> Iterator[Path]:
    for pattern in _WRITERS:
        yield from sorted(path for path in _PACKAGE.glob(pattern) if not path.stem.startswith(_SILENT))


def _meaning(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
    return ast.dump(tree)
