"""The audit log as a file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.audit import TEXT_LIMIT_CHARACTERS, AuditFile
from dockreg_tx.blocking import InlineBlocking
from tests.cli.test_repos import DIGEST, RepositoryCase
from tests.cli.test_users import PeopleCase


class AuditFileTests(SynchronousTestCase):
    """Lines."""

    def test_lines(self) -> None:
        """Each entry is one line of JSON with the time; long texts are cut, empty ones left out."""
        path = self.mktemp()
        log = AuditFile(path, now=lambda: 1_800_000_000.5)
        log.write({"action": "push", "reference": "a\nb", "digest": None, "principal": ""})
        os.rename(path, path + ".1")
        log.write({"action": "x" * 1000})
        with open(path + ".1") as file:
            (line,) = file.read().splitlines()
        expected = {"time": "2027-01-15T08:00:00.500Z", "action": "push", "reference": "a\nb"}
        self.assertEqual(expected, json.loads(line))
        with open(path) as file:
            self.assertEqual(TEXT_LIMIT_CHARACTERS, len(json.loads(file.read())["action"]))
        self.assertEqual(0, stat.S_IMODE(os.stat(path).st_mode) & 0o137)

    def test_gathered(self) -> None:
        """Entries that come while the thread is busy are written together, all and in order."""
        path = self.mktemp()
        given: list[Callable[[], None]] = []

        class Held(InlineBlocking):
            def give(self, work: Callable[[], None]) -> None:
                given.append(work)

        log = AuditFile(path, now=lambda: 0.0, blocking=Held())
        for number in range(3):
            log.write({"action": f"a{number}"})
        self.assertEqual(1, len(given))
        given.pop()()
        log.write({"action": "a3"})
        given.pop()()
        with open(path) as file:
            self.assertEqual(["a0", "a1", "a2", "a3"], [json.loads(line)["action"] for line in file])

    def test_unwritable(self) -> None:
        """A log that cannot be written stops nobody, and is reported."""
        AuditFile("/nonexistent/audit.log", now=lambda: 0.0).write({"action": "push"})


class CommandAuditTests(PeopleCase):
    """What the command notes."""

    def test_changes(self) -> None:
        """Every change of users, grants, tokens and keys is noted, and no secret is."""
        password = self.done("user", "add", "ci", "--grant", "pull:**").strip()
        self.done("grant", "add", "ci", "push:a")
        self.done("grant", "remove", "ci", "push:a")
        self.done("user", "disable", "ci")
        created = self.listed("token", "create", "ci")
        self.done("token", "revoke", created["id"])
        self.done("keys", "rotate")
        self.done("user", "remove", "ci", "--yes")
        with open(os.path.join(self.root, "audit.log")) as file:
            text = file.read()
        entries = [json.loads(line) for line in text.splitlines()]
        self.assertEqual(
            [
                "user.add", "grant.add", "grant.remove", "user.disable", "token.create", "token.revoke",
                "keys.rotate", "user.remove",
            ],
            [entry["action"] for entry in entries],
        )  # fmt: skip
        for secret in (password, created["token"]):
            self.assertNotIn(secret, text)


class ContentAuditTests(RepositoryCase):
    """What the command notes of content."""

    def test_changes(self) -> None:
        """Every removal, restore and rollback is noted with its object; a refused one is not."""
        self.done("tag", "remove", "team/app:v1", "--yes")
        self.done("tag", "rollback", "team/app:v1", "--yes")
        self.done("tag", "remove", "team/app:v2", "--yes")
        (item,) = (each for each in self.listed("trash", "list") if each["tags"] == ["v2"])
        self.done("trash", "restore", str(item["id"]))
        self.done("manifest", "remove", f"team/app@{DIGEST}", "--yes")
        self.done("repo", "remove", "zoo", "--yes")
        self.refused("repo", "remove", "zoo", "--yes")
        with open(os.path.join(self.root, "audit.log")) as file:
            entries = [json.loads(line) for line in file]
        keys = ("action", "principal", "result", "repository", "reference", "digest", "tags")
        who = ("dockreg command", "ok")
        self.assertEqual(
            [
                ("tag.remove", *who, "team/app", "v1", str(DIGEST), None),
                ("tag.rollback", *who, "team/app", "v1", str(DIGEST), None),
                ("tag.remove", *who, "team/app", "v2", str(DIGEST), None),
                ("trash.restore", *who, "team/app", None, str(DIGEST), ["v2"]),
                ("manifest.remove", *who, "team/app", str(DIGEST), str(DIGEST), ["v1", "v2"]),
                ("repo.remove", *who, "zoo", None, None, None),
            ],
            [tuple(entry.get(key) for key in keys) for entry in entries],
        )
