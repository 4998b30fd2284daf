"""Tests of ``dockreg_tx.access.grants``."""

from __future__ import annotations

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.grants import (
    Decision,
    Grant,
    GrantInvalid,
    Principal,
    allows_any,
    anonymous_principal,
    decide,
)
from dockreg_tx.oci.names import RepositoryName

ACTIONS = ("pull", "create", "push", "delete")


def principal(*specs: str, is_admin: bool = False) -> Principal:
    """Return a user with some grants."""
    return Principal("alice", is_admin=is_admin, grants=tuple(map(Grant.parse, specs)))


def allowed(specs: str, name: str) -> str:
    """Return the actions on content that space-separated grants allow in a repository."""
    user = principal(*specs.split())
    repository = RepositoryName.parse(name)
    return ",".join(action for action in ACTIONS if decide(user, action, repository).is_allowed)


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern means a repository."""
    return Grant.parse(f"pull:{pattern}").applies("pull", RepositoryName.parse(name))


def matches_slowly(pattern: list[str], name: list[str]) -> bool:
    """Tell the same by the plain definition, component by component."""
    if not pattern or not name:
        return not pattern and not name
    if pattern == ["**"]:
        return True
    if pattern[0] == "**":
        return matches_slowly(pattern[1:], name) or matches_slowly(pattern, name[1:])
    return component_matches(pattern[0], name[0]) and matches_slowly(pattern[1:], name[1:])


def component_matches(pattern: str, text: str) -> bool:
    """Tell whether a component with ``*`` means a text."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(component_matches(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return text.startswith(pattern[0]) and component_matches(pattern[1:], text[1:])


class ParseTests(SynchronousTestCase):
    """``Grant.parse`` and ``str``."""

    def test_canonical(self) -> None:
        """Every spelling of a grant is written in one way."""
        for expected, spec in [
            ("pull:**", "pull:**"),
            ("pull,push:team-a/**", "push,pull,push:team-a/**"),
            ("pull,create,push,delete:a", "delete,push,create,pull:a"),
            ("*:alice/*", "*:alice/*"),
            ("*:a", "pull,*:a"),
            ("!push:prod/**", "!push:prod/**"),
            ("pull:**", "Docker.Download"),
            ("push:**", "Docker.Upload"),
            ("delete:**", "Docker.Delete"),
            ("push:team-a/**", "Docker.Upload:team-a/**"),
            ("!delete:**", "!Docker.Delete"),
            ("metrics", "metrics"),
            ("!metrics", "!metrics"),
        ]:
            with self.subTest(spec=spec):
                self.assertEqual(expected, str(Grant.parse(spec)))
                self.assertEqual(Grant.parse(expected), Grant.parse(spec))

    def test_values(self) -> None:
        """A grant is its actions, its pattern and its sign."""
        self.assertEqual(Grant(frozenset({"pull", "push"}), "a/*", False), Grant.parse("pull,push:a/*"))
        self.assertEqual(Grant(frozenset({"pull"}), "a", True), Grant.parse("!pull:a"))
        self.assertEqual(1, len({Grant.parse("pull:a"), Grant.parse("pull:a")}))

    def test_refused(self) -> None:
        """Anything else is refused with one line that says what is allowed."""
        for said, specs in {
            "ACTIONS:PATTERN": ["", "!", "pull", "docker.upload", "Docker.Upload,pull", "metrics,pull"],
            "unknown action": [
                ":a", "fly:a", "Pull:a", "pull,:a", "pull, push:a", "admin:a", "!!pull:a", "metrics,pull:a",
                "Docker.Upload,pull:a", "pull\n:a",
            ],
            "within one component": [
                "pull:", "pull:/", "pull:/a", "pull:a/", "pull:a//b", "pull:A", "pull:a b", "pull:a\n",
                "pull:é", "pull:a?", "pull:[a]", "pull:a**", "pull:**a", "pull:***",
                "pull:a:b", "Docker.Upload:",
            ],
            "longer than 255": ["pull:" + "a" * 256],
            "without a pattern": ["metrics:", "metrics:**", "!metrics:a"],
        }.items():  # fmt: skip
            for spec in specs:
                with self.subTest(spec=spec):
                    message = str(self.assertRaises(GrantInvalid, Grant.parse, spec))
                    self.assertIn(said, message)
                    self.assertTrue(message.isascii() and message.isprintable(), message)


class PatternTests(SynchronousTestCase):
    """Which repositories a pattern means."""

    def test_table(self) -> None:
        """A star stays within one component, two stars stand for components."""
        for pattern, yes, no in [
            ("**", "a a/b a/b/c", ""),
            ("a", "a", "b a/a ab"),
            ("*", "a abc", "a/b"),
            ("a/*", "a/b a/bcd", "a a/b/c b/a"),
            ("*/a", "b/a", "a c/b/a"),
            ("team-a/**", "team-a/x team-a/x/y", "team-a team-ab/x team-b/x x/team-a/y"),
            ("**/cache", "cache a/cache a/b/cache", "cache/a acache a/cached"),
            ("a/**/b", "a/b a/x/b a/x/y/b a/b/b", "a b a/b/c ab"),
            ("app-*", "app-1 app-x-y", "app app-1/x myapp-1"),
            ("*a*a", "aa baba", "a ab ba"),
            ("a.b", "a.b", "axb"),
            ("**/*b/**", "ab/c x/b/c b/b/c", "b ab/ a/b"),
            ("**/a/b/**/c", "a/b/c x/a/a/b/c a/b/x/c", "a/b/x a/x/b/c"),
            ("**/**", "a a/b", ""),
        ]:
            for name in yes.split():
                self.assertTrue(matches(pattern, name), (pattern, name))
            for name in no.split():
                if not name.endswith("/"):
                    self.assertFalse(matches(pattern, name), (pattern, name))

    @settings(derandomize=True, max_examples=500, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["**", "*", "a", "b", "a*", "*a", "*a*b", "a*b*", "*ab*a*"]),
            min_size=1,
            max_size=6,
        ),
        st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=1, max_size=6),
    )
    @example(["**", "*a*b", "a", "**", "a"], ["ab", "ab", "a", "b", "a"])
    def test_as_defined(self, pattern: list[str], name: list[str]) -> None:
        """The fast match agrees with the plain definition."""
        self.assertEqual(matches_slowly(pattern, name), matches("/".join(pattern), "/".join(name)))

    def test_hostile_patterns(self) -> None:
        """No pattern takes long to fail, however many stars it has."""
        for pattern, name in [
            ("*a" * 127, "a" * 254 + "b"),
            ("*a" * 126 + "b", "a" * 255),
            ("/".join(["**", "a"] * 50) + "/b", "/".join(["a"] * 128)),
            ("/".join(["**", "*a*a*b"] * 25) + "/c", "/".join(["aab"] * 63)),
            ("/".join(["*"] * 120), "/".join(["a"] * 119)),
            ("**/" + "/".join(["*a"] * 80), "/".join(["a"] * 127) + "/b"),
        ]:
            began = time.process_time()
            self.assertFalse(matches(pattern, name))
            self.assertLess(time.process_time() - began, 0.1, pattern)


class DecideTests(SynchronousTestCase):
    """``decide``."""

    def test_default(self) -> None:
        """What is not granted is not allowed."""
        self.assertEqual("", allowed("", "a"))
        self.assertEqual("", allowed("pull,push,delete:b", "a"))

    def test_actions(self) -> None:
        """Pushing includes creating, creating includes nothing; a star is every action on a repository."""
        for expected, specs in [
            ("pull", "pull:a"),
            ("create", "create:a"),
            ("create,push", "push:a"),
            ("delete", "delete:a"),
            ("pull,create,push,delete", "*:a"),
            ("create,push", "Docker.Upload"),
            ("pull,delete", "pull:** delete:a"),
            ("", "metrics"),
        ]:
            self.assertEqual(expected, allowed(specs, "a"), specs)

    def test_denials(self) -> None:
        """A denial beats every grant in any order; one of pushing or creating takes both away."""
        for expected, specs in [
            ("create,push,delete", "*:** !pull:a"),
            ("create,push,delete", "!pull:a *:** pull:a"),
            ("pull,delete", "*:** !push:a"),
            ("pull,delete", "*:** !create:a"),
            ("pull,create,push", "*:** !Docker.Delete"),
            ("", "*:** !*:a"),
            ("pull,create,push,delete", "*:** !*:b !metrics"),
            ("", "!pull:b"),
        ]:
            self.assertEqual(expected, allowed(specs, "a"), specs)

    def test_reasons(self) -> None:
        """The decision names the grant that it rests on."""
        allow, deny = Grant.parse("pull:**"), Grant.parse("!pull:secret/**")
        user = Principal("alice", grants=(allow, deny))
        self.assertEqual(
            Decision(True, allow, "granted by pull:**"), decide(user, "pull", RepositoryName("a"))
        )
        self.assertEqual(
            Decision(False, deny, "denied by !pull:secret/**"),
            decide(user, "pull", RepositoryName("secret/a")),
        )
        self.assertEqual(
            Decision(False, None, "no grant allows it"), decide(user, "push", RepositoryName("a"))
        )

    def test_admin(self) -> None:
        """An admin may do everything, whatever is denied."""
        admin = principal("!*:**", is_admin=True)
        for action in (*ACTIONS, "catalog", "metrics", "admin"):
            self.assertTrue(decide(admin, action, None).is_allowed)
            self.assertTrue(decide(admin, action, RepositoryName("a")).is_allowed)

    def test_not_an_admin(self) -> None:
        """Every grant there is makes nobody an admin, and unknown actions are never allowed."""
        user = principal("*:**", "metrics")
        for action in ("admin", "fly", "", "*"):
            self.assertFalse(decide(user, action, None).is_allowed)
            self.assertFalse(decide(user, action, RepositoryName("a")).is_allowed)

    def test_metrics(self) -> None:
        """Metrics are granted by name, denied by name, and belong to no repository."""
        self.assertTrue(decide(principal("metrics"), "metrics", None).is_allowed)
        self.assertFalse(decide(principal("metrics", "!metrics"), "metrics", None).is_allowed)
        self.assertFalse(decide(principal("*:**"), "metrics", None).is_allowed)
        self.assertFalse(decide(principal("metrics"), "metrics", RepositoryName("a")).is_allowed)

    def test_no_repository(self) -> None:
        """Actions on repositories need one."""
        self.assertFalse(decide(principal("*:**"), "pull", None).is_allowed)

    def test_catalog(self) -> None:
        """Every user may list; anonymous may where anything is granted to it."""
        self.assertTrue(decide(principal(), "catalog", None).is_allowed)
        for expected, specs in [(False, []), (False, ["!pull:a"]), (True, ["!pull:a", "pull:b"])]:
            anonymous = anonymous_principal("none", map(Grant.parse, specs))
            self.assertEqual(expected, decide(anonymous, "catalog", None).is_allowed)
        self.assertFalse(decide(principal("*:**"), "catalog", RepositoryName("a")).is_allowed)

    def test_allows_any(self) -> None:
        """One allowed action of several is enough."""
        repository = RepositoryName("a")
        self.assertTrue(allows_any(principal("create:a"), ("pull", "push", "create"), repository))
        self.assertFalse(allows_any(principal("delete:a"), ("pull", "push", "create"), repository))
        self.assertFalse(allows_any(principal("*:a"), (), repository))

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(
        st.lists(st.sampled_from(["pull:a", "push:a", "*:**", "!pull:a", "!push:**", "create:a"]), max_size=5)
    )
    def test_order_is_irrelevant(self, specs: list[str]) -> None:
        """The order of grants changes no answer, and a denial never gives anything."""
        answer = allowed(" ".join(specs), "a")
        self.assertEqual(answer, allowed(" ".join(reversed(specs)), "a"))
        without = [spec for spec in specs if not spec.startswith("!")]
        self.assertTrue(set(answer.split(",")) <= {*allowed(" ".join(without), "a").split(","), ""})


class AnonymousTests(SynchronousTestCase):
    """``anonymous_principal``."""

    def test_modes(self) -> None:
        """Anonymous may pull or push everywhere by mode, more by grants, and delete by neither mode."""
        for expected, mode, specs in [
            ("", "none", []),
            ("pull", "none", ["pull:public/**"]),
            ("pull", "pull", []),
            ("pull,create,push", "push", []),
            ("delete", "none", ["delete:**"]),
            ("", "pull", ["!pull:public/**"]),
        ]:
            anonymous = anonymous_principal(mode, [Grant.parse(spec) for spec in specs])
            self.assertEqual(("", True, False), (anonymous.name, anonymous.is_anonymous, anonymous.is_admin))
            repository = RepositoryName("public/a")
            answer = ",".join(each for each in ACTIONS if decide(anonymous, each, repository).is_allowed)
            self.assertEqual(expected, answer)
        self.assertRaises(KeyError, anonymous_principal, "admin", ())
