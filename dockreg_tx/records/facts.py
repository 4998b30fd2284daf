"""What a journal says once all of it is read: the state that the database had, in memory, without content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dockreg_tx.ports import Account, TokenKind, TokenRecord
from dockreg_tx.records.journal import Entry


@dataclass(frozen=True, slots=True)
class ManifestFact:
    """A manifest; times in seconds since the epoch."""

    media_type: str
    pushed_at: float
    pushed_by: str


@dataclass(frozen=True, slots=True)
class Move:
    """A tag that points elsewhere from a moment on; None: it was removed."""

    tag: str
    digest: str | None
    at: float
    by: str


@dataclass(frozen=True, slots=True)
class TrashFact:
    """A deleted tag (then ``manifest`` is None) or manifest."""

    repository: str
    digest: str
    tags: tuple[str, ...]
    manifest: ManifestFact | None
    deleted_at: float
    deleted_by: str

    @property
    def kind(self) -> str:
        """As the database calls it."""
        return "tag" if self.manifest is None else "manifest"


@dataclass(slots=True)
class RepositoryFacts:
    """One repository; links are size and time by digest, tags digest and time by name."""

    created_at: float
    links: dict[str, tuple[int, float]] = field(default_factory=dict)
    manifests: dict[str, ManifestFact] = field(default_factory=dict)
    tags: dict[str, tuple[str, float]] = field(default_factory=dict)
    history: list[Move] = field(default_factory=list)


class UnknownEvent(Exception):
    """An entry that this release does not know."""


class Facts:
    """The state that a journal adds up to."""

    def __init__(self) -> None:
        self.repositories: dict[str, RepositoryFacts] = {}
        self.trash: list[TrashFact] = []
        self.accounts: dict[str, Account] = {}
        #: When each was given, by user and SPEC.
        self.grants: dict[str, dict[str, float]] = {}
        self.tokens: dict[str, TokenRecord] = {}
        #: Whether there ever was a user.
        self.has_known_users = False
        self._holders: dict[str, set[str]] = {}
        self._events: dict[str, Callable[[Entry], None]] = {
            "repository.add": self._repository_add,
            "repository.remove": self._repository_remove,
            "blob.link": self._blob_link,
            "blob.unlink": self._blob_unlink,
            "blob.collect": self._blob_collect,
            "manifest.put": self._manifest_put,
            "manifest.delete": self._manifest_delete,
            "tag.put": self._tag_put,
            "tag.delete": self._tag_delete,
            "tag.moved": self._tag_moved,
            "tag.at": self._tag_at,
            "trash.add": self._trash_add,
            "trash.restore": self._trash_restore,
            "trash.empty": self._trash_empty,
            "user.add": self._user_add,
            "user.password": self._user_password,
            "user.disabled": self._user_disabled,
            "user.remove": self._user_remove,
            "grant.add": self._grant_add,
            "grant.remove": self._grant_remove,
            "token.add": self._token_add,
            "token.remove": self._token_remove,
        }

    def apply(self, entry: Entry) -> None:
        """Let one entry happen.

        Raises:
            UnknownEvent: it is of another release.
            KeyError, TypeError, ValueError: it lacks something.
        """
        event = self._events.get(str(entry.get("event")))
        if event is None:
            raise UnknownEvent(str(entry.get("event")))
        event(entry)

    def needed_digests(self) -> set[str]:
        """Return the digests of everything that is linked, or a manifest, deleted ones included."""
        found = set(self._holders)
        for repository in self.repositories.values():
            found.update(repository.manifests)
        found.update(item.digest for item in self.trash)
        return found

    # --- repositories

    def _repository(self, entry: Entry) -> RepositoryFacts:
        name = str(entry["repository"])
        return self.repositories.setdefault(name, RepositoryFacts(_at(entry)))

    def _repository_add(self, entry: Entry) -> None:
        self._repository(entry)

    def _repository_remove(self, entry: Entry) -> None:
        name = str(entry["repository"])
        found = self.repositories.pop(name, None)
        if found is None:
            return
        for digest in found.links:
            self._unhold(digest, name)
        tags: dict[str, list[str]] = {}
        for tag, (digest, _) in sorted(found.tags.items()):
            tags.setdefault(digest, []).append(tag)
        for digest, manifest in found.manifests.items():
            self._trash(entry, digest, tags.get(digest, []), manifest)

    def _blob_link(self, entry: Entry) -> None:
        digest = str(entry["digest"])
        self._repository(entry).links[digest] = (_integer(entry["size_bytes"]), _at(entry))
        self._holders.setdefault(digest, set()).add(str(entry["repository"]))

    def _blob_unlink(self, entry: Entry) -> None:
        self._repository(entry).links.pop(str(entry["digest"]), None)
        self._unhold(str(entry["digest"]), str(entry["repository"]))

    def _blob_collect(self, entry: Entry) -> None:
        for name in self._holders.pop(str(entry["digest"]), ()):
            self.repositories[name].links.pop(str(entry["digest"]), None)

    def _unhold(self, digest: str, name: str) -> None:
        holders = self._holders.get(digest, set())
        holders.discard(name)
        if not holders:
            self._holders.pop(digest, None)

    # --- manifests and tags

    def _manifest_put(self, entry: Entry) -> None:
        fact = ManifestFact(str(entry["media_type"]), _at(entry), str(entry["by"]))
        self._repository(entry).manifests[str(entry["digest"])] = fact

    def _manifest_delete(self, entry: Entry) -> None:
        repository, digest = self._repository(entry), str(entry["digest"])
        tags = sorted(tag for tag, (target, _) in repository.tags.items() if target == digest)
        for tag in tags:
            del repository.tags[tag]
            repository.history.append(Move(tag, None, _at(entry), str(entry["by"])))
        manifest = repository.manifests.pop(digest, None)
        if manifest is not None:
            self._trash(entry, digest, tags, manifest)

    def _tag_put(self, entry: Entry) -> None:
        self._tag_moved(entry)
        self._tag_at(entry)

    def _tag_delete(self, entry: Entry) -> None:
        repository, tag = self._repository(entry), str(entry["tag"])
        target = repository.tags.pop(tag, None)
        repository.history.append(Move(tag, None, _at(entry), str(entry["by"])))
        if target is not None:
            self._trash(entry, target[0], [tag], None)

    def _tag_moved(self, entry: Entry) -> None:
        digest = entry["digest"]
        move = Move(str(entry["tag"]), None if digest is None else str(digest), _at(entry), str(entry["by"]))
        self._repository(entry).history.append(move)

    def _tag_at(self, entry: Entry) -> None:
        self._repository(entry).tags[str(entry["tag"])] = (str(entry["digest"]), _at(entry))

    # --- the trash

    def _trash(self, entry: Entry, digest: str, tags: list[str], manifest: ManifestFact | None) -> None:
        item = TrashFact(
            str(entry["repository"]), digest, tuple(tags), manifest, _at(entry), str(entry["by"])
        )
        self.trash.append(item)

    def _trash_add(self, entry: Entry) -> None:
        manifest = None
        if entry["kind"] == "manifest":
            manifest = ManifestFact(
                str(entry["media_type"]), _number(entry["pushed_at"]), str(entry["pushed_by"])
            )
        self._trash(entry, str(entry["digest"]), _texts(entry["tags"]), manifest)

    def _trash_restore(self, entry: Entry) -> None:
        wanted = (entry["kind"], entry["repository"], entry["digest"], entry["deleted_at"])
        for index, item in enumerate(self.trash):
            if (item.kind, item.repository, item.digest, item.deleted_at) == wanted:
                del self.trash[index]
                return

    def _trash_empty(self, entry: Entry) -> None:
        before = _number(entry["before"])
        self.trash = [item for item in self.trash if item.deleted_at >= before]

    # --- users

    def _user_add(self, entry: Entry) -> None:
        name = str(entry["name"])
        self.has_known_users = True
        self.accounts[name] = Account(
            name=name,
            password_hash=str(entry["password_hash"]),
            is_admin=bool(entry["is_admin"]),
            is_disabled=bool(entry["is_disabled"]),
            created_at=_number(entry["created_at"]),
        )

    def _change_user(self, entry: Entry, **changed: Any) -> None:
        found = self.accounts.get(str(entry["name"]))
        if found is not None:
            fields = {name: getattr(found, name) for name in Account.__slots__}
            self.accounts[found.name] = Account(**{**fields, **changed})

    def _user_password(self, entry: Entry) -> None:
        self._change_user(entry, password_hash=str(entry["password_hash"]))

    def _user_disabled(self, entry: Entry) -> None:
        self._change_user(entry, is_disabled=bool(entry["is_disabled"]))

    def _user_remove(self, entry: Entry) -> None:
        name = str(entry["name"])
        self.accounts.pop(name, None)
        self.grants.pop(name, None)
        self.tokens = {key: token for key, token in self.tokens.items() if token.user != name}

    def _grant_add(self, entry: Entry) -> None:
        self.grants.setdefault(str(entry["name"]), {})[str(entry["spec"])] = _at(entry)

    def _grant_remove(self, entry: Entry) -> None:
        self.grants.get(str(entry["name"]), {}).pop(str(entry["spec"]), None)

    def _token_add(self, entry: Entry) -> None:
        grants, expires_at = entry["grants"], entry["expires_at"]
        self.tokens[str(entry["id"])] = TokenRecord(
            id=str(entry["id"]),
            kind=TokenKind(str(entry["kind"])),
            hash=str(entry["hash"]),
            user=str(entry["user"]),
            created_at=_number(entry["created_at"]),
            grants=None if grants is None else tuple(json.loads(str(grants))),
            note=str(entry["note"]),
            expires_at=None if expires_at is None else _number(expires_at),
        )

    def _token_remove(self, entry: Entry) -> None:
        self.tokens.pop(str(entry["id"]), None)


def _at(entry: Entry) -> float:
    return _number(entry["at"])


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError("not a number")
    return float(value)


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return [str(item) for item in value]
