"""A rebuilt database equals the lost one, whatever happened before."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestInvalid, RegistryError, StoreUnavailable
from dockreg_tx.oci.manifests import parse_manifest
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.ports import Account, Cutoff, NewManifest, TokenKind, TokenRecord
from dockreg_tx.preparation import run_inline
from dockreg_tx.records import compaction
from dockreg_tx.records import writer as writer_module
from dockreg_tx.records.journal import JournalEnd, format_line, journal_path, numbers, snapshots
from dockreg_tx.records.journal_reader import JournalReader
from dockreg_tx.records.rebuild import Counts, gather, references_of
from dockreg_tx.records.replacement import place_database, rebuild_database
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.records.transactions import Transaction
from tests.records.dumps import DUMPS, Dump, dump

OCI = "application/vnd.oci.image.manifest.v1+json"


class World:
    """Records in a directory, and content in memory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = os.path.join(root, "registry.db")
        self.journal = os.path.join(root, "journal")
        self.content: dict[Digest, bytes] = {}
        self.now = 100.0
        self.records = self._opened()

    def _opened(self) -> InlineSqliteRecords:
        records = InlineSqliteRecords(
            path=self.path, journal_dir=self.journal, lock_path=os.path.join(self.root, "registry.lock")
        )
        records.start()
        return records

    def size_of(self, digest: Digest) -> int | None:
        """As ``Content``, of what can be stored."""
        if not digest.supported:
            raise DigestInvalid("unsupported", {})
        return len(self.content[digest]) if digest in self.content else None

    def read(self, digest: Digest) -> bytes | None:
        """As ``Content``."""
        return self.content.get(digest)

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await what is done in place; what the registry refuses is no error."""
        self.now += 1
        try:
            return run_inline(call)
        except RegistryError:
            return None

    def blob(self, repository: str, content: bytes) -> Digest:
        """Push a blob."""
        digest = Digest.of(content)
        self.content[digest] = content
        name = RepositoryName(repository)
        self.do(
            self.records.commit_blob(name, digest, len(content), lambda: None, upload_id=None, now=self.now)
        )
        return digest

    def manifest(self, repository: str, label: str, *tags: str, subject: Digest | None = None) -> Digest:
        """Push an image of one layer."""
        layer = f"layer {label}".encode()
        self.blob(repository, layer)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": descriptor(b"{}"),
            "layers": [descriptor(layer)],
            "annotations": {"label": label},
        }
        self.blob(repository, b"{}")
        if subject is not None:
            document["subject"] = {"mediaType": OCI, "digest": str(subject), "size": 3}
        content = json.dumps(document).encode()
        parsed, digest = parse_manifest(content, OCI), Digest.of(content)
        self.content[digest] = content
        manifest = NewManifest(
            RepositoryName(repository),
            digest,
            OCI,
            content,
            references_of(parsed),
            parsed.artifact_type,
            parsed.annotations,
            "alice",
        )
        self.do(
            self.records.put_manifest(
                manifest, [Tag(tag) for tag in tags], lambda: None, may_overwrite=True, now=self.now
            )
        )
        return digest

    def collect(self, grace: float) -> None:
        """Collect garbage, and forget old trash."""
        cutoff = Cutoff(self.now - grace, self.now - grace)
        dead = run_inline(self.records.dead_blobs(cutoff, None, 100))

        def take(digest: Digest) -> Callable[[], None]:
            self.content.pop(digest, None)
            return lambda: None

        if dead:
            digests = [blob.digest for blob in dead]
            self.do(self.records.collect_blobs(digests, cutoff, take=take, is_enough=lambda: False))
        self.do(self.records.empty_trash(cutoff.trashed_before))

    def rebuilt(self, *, place: bool = False) -> tuple[Dump, list[str], Counts]:
        """Return what a database holds that is made anew, what was reported, and its counts."""
        path = self.path if place else os.path.join(self.root, "other.db")
        problems: list[str] = []
        reader = JournalReader(self.journal, problems.append)
        facts = gather(reader.entries(), problems.append)
        end = reader.end
        counts = rebuild_database(path, facts, end=end, content=self, report=problems.append, now=self.now)
        place_database(path, os.path.join(self.root, "aside"))
        return dump(path), problems, counts

    def lose(self) -> None:
        """Lose the database, rebuild it, and go on."""
        self.records.close()
        self.rebuilt(place=True)
        self.records = self._opened()


def descriptor(content: bytes) -> dict[str, object]:
    """Return what a manifest says of a blob."""
    return {"mediaType": "text/plain", "digest": str(Digest.of(content)), "size": len(content)}


class RebuildCase(SynchronousTestCase):
    """A test case with a world."""

    def setUp(self) -> None:
        root = self.mktemp()
        os.mkdir(root)
        self.world = World(root)
        self.addCleanup(self.world.records.close)

    def assert_same(self) -> None:
        """Check that the rebuilt database equals ours, and that nothing was reported."""
        found, problems, _ = self.world.rebuilt()
        self.assertEqual([], problems)
        for query, expected, actual in zip(DUMPS, dump(self.world.path), found, strict=True):
            self.assertEqual(expected, actual, query)


class RebuildTests(RebuildCase):
    """What a rebuild does with each kind of damage."""

    def test_counts(self) -> None:
        """What came back is counted."""
        self.world.manifest("app", "one", "latest", "v1")
        self.world.do(self.world.records.add_account(Account("alice", "hash", grants=("pull:**",))))
        self.assert_same()
        _, _, counts = self.world.rebuilt()
        self.assertEqual(Counts(1, 2, 1, 3, 1, 0), counts)

    def test_missing_content(self) -> None:
        """What has no bytes any more is named, and the rest comes back."""
        self.world.manifest("app", "one", "latest")
        lost = self.world.manifest("app", "two", "v2")
        del self.world.content[lost]
        del self.world.content[Digest.of(b"{}")]
        found, problems, counts = self.world.rebuilt()
        self.assertEqual((1, 1), (counts.tags, counts.manifests))
        self.assertEqual([("app", "latest")], [row[:2] for row in found[4]])
        self.assertEqual(3, len(problems), problems)
        self.assertTrue(any(f"app@{lost} is lost" in line for line in problems), problems)
        self.assertTrue(any(line.startswith("app:v2 is lost") for line in problems), problems)

    def test_foreign_algorithm(self) -> None:
        """A deleted manifest may name something by an algorithm that nothing is stored under."""
        digest = self.world.manifest("app", "one", subject=Digest.parse("blake3:" + "a" * 64))
        self.assert_same()
        self.world.do(self.world.records.delete_manifest(RepositoryName("app"), digest, by="", now=200.0))
        self.assert_same()

    def test_lost_line_of_a_manifest(self) -> None:
        """A tag whose manifest's line is damaged comes back from the manifest's bytes."""
        self.world.manifest("app", "one", "latest")
        path = journal_path(self.world.journal, 1)
        with open(path, "rb") as file:
            lines = file.readlines()
        index = next(index for index, line in enumerate(lines) if b"manifest.put" in line)
        lines[index] = lines[index].replace(b"manifest.put", b"manifest.pux")
        with open(path, "wb") as file:
            file.writelines(lines)
        found, problems, _ = self.world.rebuilt()
        self.assertEqual(["app", "latest"], list(found[4][0][:2]))
        self.assertEqual(1, len(problems))
        self.assertIn("is damaged", problems[0])

    def test_torn_tail(self) -> None:
        """A last line that a crash tore was never acknowledged; nothing is reported."""
        self.world.manifest("app", "one", "latest")
        expected = dump(self.world.path)
        with open(journal_path(self.world.journal, 1), "ab") as file:
            file.write(format_line({"event": "repository.remove", "repository": "app"})[:-9])
        found, problems, _ = self.world.rebuilt()
        self.assertEqual(([], expected), (problems, found))
        # The line stays where it is, and what comes after it counts.
        self.world.manifest("app", "two", "v2")
        self.assert_same()

    def test_strange_lines(self) -> None:
        """Entries of another release, and such as lack something, are reported and left out."""
        with open(journal_path(self.world.journal, 1), "ab") as file:
            file.writelines(
                format_line(entry)
                for entry in ({"event": "tag.glued", "at": 1.0}, {"event": "tag.put", "at": 1.0}, {"at": 2})
            )
        _, problems, _ = self.world.rebuilt()
        self.assertEqual(3, len(problems), problems)

    def test_uncommitted(self) -> None:
        """What the journal says of a transaction that failed is void when the next is acknowledged."""
        world = self.world
        digest = world.manifest("app", "one", "latest")
        patch = self.patch(writer_module, "note_journal_end", _fail)
        self.assertRaises(
            StoreUnavailable,
            run_inline,
            world.records.delete_tag(RepositoryName("app"), Tag("latest"), by="", now=5.0),
        )
        patch.restore()
        self.flushLoggedErrors()
        # It changes nothing, so that it leaves no line of its own; but it is acknowledged.
        world.do(world.records.point_tag(RepositoryName("app"), Tag("latest"), digest, by="", now=6.0))
        self.assert_same()

    def test_uncommitted_by_a_killed_process(self) -> None:
        """The same when the process died between journal and commit: the next start voids the lines."""
        world = self.world
        world.manifest("app", "one", "latest")
        world.records.close()
        with open(journal_path(world.journal, 1), "ab") as file:
            file.write(format_line({"event": "repository.remove", "at": 9.0, "repository": "app", "by": ""}))
        world.records = world._opened()
        self.assert_same()

    def test_journal_of_an_older_release(self) -> None:
        """A database that does not know how far its journal goes takes all of it for committed."""
        world = self.world
        world.manifest("app", "one", "latest")
        world.records.close()
        connection = sqlite3.connect(world.path)
        connection.execute("UPDATE journal_ends SET number = 0, size_bytes = 0")
        connection.commit()
        connection.close()
        world.records = world._opened()
        world.manifest("app", "two", "v2")
        self.assert_same()

    def test_old_database_is_kept(self) -> None:
        """Database and WAL are moved aside together, and stay readable there."""
        self.world.manifest("app", "one", "latest")
        expected = dump(self.world.path)
        self.world.lose()
        self.assertEqual(expected, dump(os.path.join(self.world.root, "aside")))
        self.assertEqual(expected, dump(self.world.path))

    def test_killed_while_placing(self) -> None:
        """After a crash between the renames there is no database, and the next rebuild makes one."""
        self.world.manifest("app", "one", "latest")
        expected = dump(self.world.path)
        self.world.records.close()
        rename = os.rename
        for allowed in range(2):
            calls: list[str] = []

            def dying(source: str, target: str, calls: list[str] = calls, allowed: int = allowed) -> None:
                if len(calls) >= allowed:
                    raise KeyboardInterrupt
                calls.append(source)
                rename(source, target)

            patch = self.patch(os, "rename", dying)
            self.assertRaises(KeyboardInterrupt, self.world.rebuilt, place=True)
            patch.restore()
            self.assertEqual(allowed == 0, os.path.exists(self.world.path))
        self.world.rebuilt(place=True)
        self.assertEqual(expected, dump(self.world.path))

    def test_last_user_removed_on_purpose(self) -> None:
        """A registry that had users, and has none, does not look new after a rebuild."""
        self.world.do(self.world.records.add_account(Account("alice", "hash")))
        self.world.do(self.world.records.remove_account("alice", now=1.0))
        self.world.lose()
        self.assertGreater(run_inline(self.world.records.access_generation()), 1)


class CompactionTests(RebuildCase):
    """A snapshot in the place of the journal's lines."""

    def compacted(self) -> bool:
        """Compact, however short the journal."""
        found: bool = run_inline(self.world.records.compact_journal(0))
        return found

    def test_short(self) -> None:
        """A journal that is short, or no longer than what is live, is left alone."""
        self.world.manifest("app", "one", "latest")
        self.assertFalse(run_inline(self.world.records.compact_journal(10**6)))
        self.assertTrue(self.compacted())
        self.world.blob("app", b"one more")
        self.assertFalse(self.compacted())

    def test_equal(self) -> None:
        """The snapshot and what follows it tell the same as all the lines; old files are gone."""
        world = self.world
        for number in range(9):
            world.manifest("app", f"{number}", "latest")
        world.do(world.records.delete_tag(RepositoryName("app"), Tag("latest"), by="bob", now=3.0))
        world.do(world.records.add_account(Account("alice", "hash", grants=("pull:**",))))
        world.do(world.records.add_token(robot("alice")))
        self.assertTrue(self.compacted())
        self.assertEqual(([1], [2]), (snapshots(world.journal), numbers(world.journal)))
        self.assert_same()
        world.manifest("app", "after", "latest")
        self.assert_same()
        world.lose()
        world.manifest("app", "after that", "v3")
        self.assert_same()

    def test_other_writers(self) -> None:
        """A process whose file was removed since appends to the newest one."""
        other = self.world._opened()
        self.addCleanup(other.close)
        run_inline(other.add_account(Account("alice", "hash")))
        for number in range(2):
            self.world.manifest("app", f"{number}" * 3000, "latest")
            self.assertTrue(self.compacted() or number)
            for extra in range(9):
                self.world.manifest("app", f"{number}-{extra}", "latest")
        self.compacted()
        self.assertTrue(run_inline(other.set_password_hash("alice", "new", now=5.0)))
        self.assert_same()

    def test_during_writes(self) -> None:
        """What is committed between begin and finish of a compaction follows the snapshot."""
        world = self.world
        world.manifest("app", "one", "latest")
        begun = run_inline(
            world.records._write(lambda transaction: compaction.begin(transaction, minimum_bytes=0))
        )
        assert begun is not None
        world.manifest("app", "two", "latest")
        self.assert_same()
        begun.finish()
        self.assert_same()

    def test_abandoned(self) -> None:
        """A compaction that ends before its snapshot is in place changes nothing, and can be done again."""
        world = self.world
        world.manifest("app", "one", "latest")

        def dying(source: str, target: str) -> None:
            raise OSError(28, "full")

        patch = self.patch(os, "replace", dying)
        self.assertRaises(StoreUnavailable, self.compacted)
        patch.restore()
        world.manifest("app", "two", "latest")
        self.assert_same()
        self.assertTrue(self.compacted())
        self.assert_same()

    def test_killed_before_old_files_went(self) -> None:
        """Files that the snapshot stands for do not count, and the next compaction removes them."""
        world = self.world
        world.manifest("app", "one", "latest")
        patch = self.patch(compaction, "remove_superseded", lambda directory: None)
        self.compacted()
        patch.restore()
        for number in range(9):
            world.manifest("app", f"two {number}", "latest")
        self.assertEqual([1, 2], numbers(world.journal))
        self.assert_same()
        self.assertTrue(self.compacted())
        self.assertEqual([3], numbers(world.journal))
        self.assert_same()

    def test_snapshot_without_its_end(self) -> None:
        """A snapshot that lost lines is reported."""
        self.world.manifest("app", "one", "latest")
        self.compacted()
        (name,) = [name for name in os.listdir(self.world.journal) if "snapshot" in name]
        path = os.path.join(self.world.journal, name)
        os.truncate(path, os.path.getsize(path) - 40)
        _, problems, _ = self.world.rebuilt()
        self.assertEqual(2, len(problems), problems)


def robot(user: str, token_id: str = "t1") -> TokenRecord:
    """Return a token of a user."""
    return TokenRecord(token_id, TokenKind.ROBOT, f"hash of {token_id}", user, 1.0, None, ("pull:a",), "note")


def _fail(transaction: Transaction, end: JournalEnd) -> None:
    raise OSError(5, "no")


names = st.sampled_from(["app", "team/app"])
tags = st.sampled_from(["latest", "v1", "v2"])
labels = st.sampled_from(["a", "b", "c"])
users = st.sampled_from(["alice", "bob"])


class RebuildMachine(RuleBasedStateMachine):
    """Random operations; after each, a database made anew equals the one in use."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="dockreg-rebuild-")
        self.world = World(self.root)
        self.pushed: list[Digest] = []

    def teardown(self) -> None:
        """Remove the world."""
        self.world.records.close()
        shutil.rmtree(self.root)

    @initialize()
    def begin(self) -> None:
        """Have something from the start."""
        self.pushed.append(self.world.manifest("app", "a", "latest"))

    @rule(repository=names, label=labels, tag=tags)
    def push(self, repository: str, label: str, tag: str) -> None:
        """Push an image."""
        self.pushed.append(self.world.manifest(repository, label, tag))

    @rule(repository=names, label=labels, data=st.data())
    def refer(self, repository: str, label: str, data: st.DataObject) -> None:
        """Push what refers to an image."""
        self.world.manifest(repository, f"of {label}", subject=data.draw(st.sampled_from(self.pushed)))

    @rule(source=names, goal=names, label=labels)
    def mount(self, source: str, goal: str, label: str) -> None:
        """Mount a blob."""
        digest = Digest.of(f"layer {label}".encode())
        world = self.world
        world.do(
            world.records.mount_blob(RepositoryName(source), RepositoryName(goal), digest, now=world.now)
        )

    @rule(repository=names, tag=tags)
    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag."""
        world = self.world
        world.do(world.records.delete_tag(RepositoryName(repository), Tag(tag), by="bob", now=world.now))

    @rule(repository=names, data=st.data())
    def delete_manifest(self, repository: str, data: st.DataObject) -> None:
        """Delete a manifest with its tags."""
        digest = data.draw(st.sampled_from(self.pushed))
        world = self.world
        world.do(world.records.delete_manifest(RepositoryName(repository), digest, by="bob", now=world.now))

    @rule(repository=names, label=labels)
    def unlink(self, repository: str, label: str) -> None:
        """Take a blob away from a repository."""
        digest = Digest.of(f"layer {label}".encode())
        world = self.world
        world.do(world.records.unlink_blob(RepositoryName(repository), digest, by="bob", now=world.now))

    @rule(repository=names)
    def remove_repository(self, repository: str) -> None:
        """Remove a repository."""
        world = self.world
        world.do(world.records.remove_repository(RepositoryName(repository), by="bob", now=world.now))

    @rule(data=st.data())
    def undelete(self, data: st.DataObject) -> None:
        """Restore from the trash."""
        found = run_inline(self.world.records.trash())
        if found:
            item = data.draw(st.sampled_from(found))
            self.world.do(self.world.records.undelete(item.id, by="carol", now=self.world.now))

    @rule(grace=st.sampled_from([0.0, 5.0]))
    def collect(self, grace: float) -> None:
        """Collect garbage."""
        self.world.collect(grace)

    @rule(name=users, disabled=st.booleans())
    def user(self, name: str, disabled: bool) -> None:
        """Add or change a user."""
        world = self.world
        account = Account(name, "hash", grants=("pull:**",), created_at=world.now)
        if not world.do(world.records.add_account(account)):
            world.do(world.records.set_password_hash(name, f"hash {world.now}", now=world.now))
            world.do(world.records.set_disabled(name, disabled, now=world.now))

    @rule(name=users, spec=st.sampled_from(["pull:**", "push:a"]), is_given=st.booleans())
    def grant(self, name: str, spec: str, is_given: bool) -> None:
        """Give or take a grant."""
        records = self.world.records
        change = records.add_grant if is_given else records.remove_grant
        self.world.do(change(name, spec, now=self.world.now))

    @rule(name=users, token_id=st.sampled_from(["t1", "t2"]), is_new=st.booleans())
    def token(self, name: str, token_id: str, is_new: bool) -> None:
        """Make or revoke a robot's token."""
        records = self.world.records
        if is_new:
            self.world.do(records.add_token(robot(name, token_id)))
        else:
            self.world.do(records.remove_token(token_id, now=self.world.now))

    @rule(name=users)
    def remove_user(self, name: str) -> None:
        """Remove a user."""
        self.world.do(self.world.records.remove_account(name, now=self.world.now))

    @rule(repository=names, tag=tags)
    def fail(self, repository: str, tag: str) -> None:
        """Meet a disk that refuses the commit, after the journal's lines were written."""
        kept = writer_module.note_journal_end
        writer_module.note_journal_end = _fail
        try:
            self.delete_tag(repository, tag)
        finally:
            writer_module.note_journal_end = kept
        # Whatever comes next voids the lines, even if it changes nothing.
        self.world.do(self.world.records.end_upload("none", now=1.0))

    @rule()
    def compact(self) -> None:
        """Compact the journal."""
        run_inline(self.world.records.compact_journal(0))

    @rule()
    def lose(self) -> None:
        """Lose the database."""
        self.world.lose()

    @invariant()
    def same(self) -> None:
        """Compare the rebuilt database with ours."""
        found, problems, _ = self.world.rebuilt()
        assert problems == [], problems
        for query, expected, actual in zip(DUMPS, dump(self.world.path), found, strict=True):
            assert expected == actual, (query, expected, actual)


class RebuildStateTests(SynchronousTestCase):
    """Runs the machine."""

    def test_machine(self) -> None:
        """After any operations the rebuilt database equals the one in use."""
        run_state_machine_as_test(
            RebuildMachine,
            settings=settings(
                derandomize=True,
                deadline=None,
                max_examples=30,
                stateful_step_count=25,
                suppress_health_check=list(HealthCheck),
            ),
        )
        self.flushLoggedErrors()
