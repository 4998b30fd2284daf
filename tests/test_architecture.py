"""The shape of the code, read with ``ast``: who imports whom, what stays small, what is documented."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).parent.parent
PACKAGE = TOP / "dockreg_tx"
OUTSIDE = frozenset(
    {"settings", "service", "workers", "tap", "cli", "first_start", "logs", "root", "root_locks", "__main__"}
)
#: What each room may import of the package beside itself; rooms that are not named may import everything.
ARROWS = {
    "oci": frozenset[str](),
    "ports": frozenset({"oci"}),
    "metrics": frozenset({"oci"}),
    "blocking": frozenset({"oci", "ports"}),
    "blobs": frozenset({"oci", "ports", "metrics"}),
    "records": frozenset({"oci", "ports", "metrics"}),
    "access": frozenset({"oci", "ports", "metrics"}),
    "registry": frozenset({"oci", "ports", "metrics"}),
    "upstream": frozenset({"oci", "ports", "metrics"}),
    "moving": frozenset({"oci", "ports", "metrics"}),
    "web": frozenset({"oci", "ports", "metrics", "registry", "access"}),
}
#: The only files that name the reactor: they put the program together.
REACTOR_ALLOWED = ("service", "workers", "tap", "cli")
#: The only files that touch what twisted.web keeps private.
PRIVATE_ALLOWED = frozenset(
    {
        "web/channel.py",
        "web/chunks.py",
        "web/intake.py",
        "web/outbox.py",
        "web/outflow.py",
        "web/reader.py",
        "web/short_channel.py",
        "web/turns.py",
    }
)
LINES_LIMIT = 400


def modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yield path below ``folder`` and syntax tree of every module."""
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def room_of(path: str) -> str:
    """Return the room of a module: its folder, or its own name at the top; settings files are one room."""
    room = path.split("/", maxsplit=1)[0].removesuffix(".py")
    return "settings" if room.startswith("settings_") else room


def wrong_arrows(path: str, tree: ast.Module) -> list[str]:
    """Return the imports of a module that go against the arrows."""
    room = room_of(path)
    wrong = []
    for name in imported(tree):
        if name.startswith("."):
            wrong.append(f"{path} imports {name}: write the whole name")
        package, _, rest = name.partition(".")
        if package != "dockreg_tx" or not rest:
            continue
        target = room_of(rest.replace(".", "/"))
        if target != room and room in ARROWS and target not in ARROWS[room]:
            wrong.append(f"{path} imports {name}")
    return wrong


def foreign_imports(tree: ast.Module) -> list[str]:
    """Return the imports from Twisted and its neighbours."""
    return [
        name
        for name in imported(tree)
        if name.split(".")[0] in {"twisted", "zope", "klein", "treq", "msgspec", "joserfc"}
    ]


class ArrowTests(SynchronousTestCase):
    """A room imports only from rooms to its left."""

    def test_arrows(self) -> None:
        """No module imports against the arrows."""
        self.assertEqual([], [line for path, tree in modules(PACKAGE) for line in wrong_arrows(path, tree)])

    def test_arrows_catch(self) -> None:
        """Each kind of wrong import is noticed, a right one is not."""
        for path, line in [
            ("oci/names.py", "from dockreg_tx.ports import Body"),
            ("web/v2/blobs.py", "from dockreg_tx.records.sqlite import SqliteRecords"),
            ("registry/pull.py", "from dockreg_tx.access import grants"),
            ("records/reader.py", "import dockreg_tx.blobs.layout"),
            ("web/site.py", "from dockreg_tx.settings import Settings"),
            ("access/tokens.py", "from . import grants"),
        ]:
            self.assertEqual(1, len(wrong_arrows(path, ast.parse(line))), line)
        self.assertEqual(
            [], wrong_arrows("web/guard.py", ast.parse("from dockreg_tx.access.grants import Grant"))
        )
        self.assertEqual([], wrong_arrows("service.py", ast.parse("from dockreg_tx.web.site import Site")))

    def test_every_room_is_known(self) -> None:
        """A new room is given its arrows here."""
        rooms = {room_of(path) for path, _ in modules(PACKAGE) if "/" in path}
        self.assertEqual(set(), rooms - set(ARROWS) - {"cli", "workers"})

    def test_rules_are_pure(self) -> None:
        """``oci`` imports the standard library alone."""
        for path, tree in modules(PACKAGE / "oci"):
            self.assertEqual([], foreign_imports(tree), path)

    def test_reactor(self) -> None:
        """Only the files that put the program together name the reactor."""
        for path, tree in modules(PACKAGE):
            if room_of(path) not in REACTOR_ALLOWED:
                self.assertNotIn("twisted.internet.reactor", list(imported(tree)), path)


def private_uses(tree: ast.Module) -> list[str]:
    """Return the private names of ``twisted.web`` that a module imports, and private attributes of others.

    An attribute counts when it is not on ``self`` or ``cls`` and the module does not set one of that name
    itself; that is a heuristic, good enough to notice a new one.
    """
    found = [
        name
        for name in imported(tree)
        if name.startswith("twisted.web") and any(part.startswith("_") for part in name.split("."))
    ]
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"self", "cls"}
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            is_own = node.attr in own or (
                isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            )
            if not is_own:
                found.append(node.attr)
    return found


class PrivacyTests(SynchronousTestCase):
    """Private parts of twisted.web have two doors."""

    def test_private_parts(self) -> None:
        """Outside the intake and the outflow nobody in ``web`` uses a private name that is not its own."""
        for path, tree in modules(PACKAGE):
            if room_of(path) == "web" and path not in PRIVATE_ALLOWED:
                self.assertEqual([], private_uses(tree), path)

    def test_private_parts_catch(self) -> None:
        """A private import and a private attribute of another object are noticed."""
        self.assertEqual(
            ["twisted.web._http2.H2Stream"],
            private_uses(ast.parse("from twisted.web._http2 import H2Stream")),
        )
        self.assertEqual(["_path"], private_uses(ast.parse("request.channel._path")))
        self.assertEqual([], private_uses(ast.parse("self._path = other._path")))


def silent_tests(tree: ast.Module) -> list[str]:
    """Return the ``async def test_`` methods of synchronous test cases: they pass without being run."""
    bases = {
        node.name: {
            base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases
        }
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    synchronous = {"SynchronousTestCase"}
    for _ in bases:
        synchronous |= {name for name, parents in bases.items() if parents & synchronous}
    return [
        f"{node.name}.{method.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in synchronous
        for method in node.body
        if isinstance(method, ast.AsyncFunctionDef) and method.name.startswith("test_")
    ]


class FormTests(SynchronousTestCase):
    """What keeps the code readable, and the tests honest."""

    def test_no_silent_test(self) -> None:
        """No synchronous test case has a coroutine as a test."""
        for path, tree in modules(TOP / "tests"):
            self.assertEqual([], silent_tests(tree), path)

    def test_silent_test_catches(self) -> None:
        """A coroutine is noticed below a base class of the same module too."""
        source = "class A(SynchronousTestCase): ...\nclass B(A):\n    async def test_x(self): ..."
        self.assertEqual(["B.test_x"], silent_tests(ast.parse(source)))

    def test_small_modules(self) -> None:
        """No module of the package is longer than 400 lines."""
        for path in PACKAGE.rglob("*.py"):
            self.assertLessEqual(len(path.read_text(encoding="utf-8").splitlines()), LINES_LIMIT, str(path))

    def test_plugin_folder_is_no_package(self) -> None:
        """``twisted/plugins`` has no ``__init__.py``: with one, it would hide Twisted itself."""
        self.assertEqual([], list((TOP / "twisted").rglob("__init__.py")))

    def test_packages_are_listed(self) -> None:
        """``setup.cfg`` lists every package, for it is installed by that list."""
        listed = (TOP / "setup.cfg").read_text(encoding="utf-8").split()
        for path in PACKAGE.rglob("__init__.py"):
            self.assertIn(".".join(path.parent.relative_to(TOP).parts), listed)

    def test_settings_are_documented(self) -> None:
        """Every key of ``etc/dockreg.toml`` is named in ``docs/operating.md``."""
        document = (TOP / "docs" / "operating.md").read_text(encoding="utf-8")
        shipped = tomllib.loads((TOP / "etc" / "dockreg.toml").read_text(encoding="utf-8"))
        for section, keys in shipped.items():
            for key in keys:
                self.assertIn(f"`{section}.{key}`", document)
