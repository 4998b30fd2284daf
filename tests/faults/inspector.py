"""Pulls what was promised, and tells what is lost and what is half there."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

from tests.faults.figures import Step
from tests.faults.oracle import Key, Promises, Session
from tests.faults.pusher import offset_of
from tests.integration.images import OCI_MANIFEST, sha256
from tests.integration.sockets import Answer, Connection

#: Contents of cycles long past are pulled again in samples of this size.
SAMPLE = 40


class Inspector:
    """One inspection after a fault."""

    def __init__(self, *, port: int, authorization: str, promises: Promises, seed: int) -> None:
        self._client = Connection(port, authorization)
        self._promises = promises
        self._random = random.Random(seed)

    def inspect(self, *, is_last: bool = False) -> Step:
        """Return the broken promises; the last time, everything is pulled instead of samples."""
        found = Step(cycles=0)
        unsure = {key for key, possible in self._promises.tags.items() if len(possible) > 1}
        found.lost += self._lost_tags()
        found.lost += self._lost_sessions()
        found.lost += self._lost_manifests(is_last=is_last)
        found.lost += self._lost_blobs(is_last=is_last)
        found.lost += self._returned()
        found.half_visible += self._half_visible(unsure)
        found.half_visible += self._listings()
        self._client.close()
        self._promises.fresh.clear()
        self._promises.pending_blobs.clear()
        self._promises.pending_manifests.clear()
        return found

    def lost(self) -> list[str]:
        """Return one line for each promise that is broken, in one way or the other."""
        return self.inspect().wrong

    def kept(self) -> list[str]:
        """Return one line for each tag, manifest or blob that is lost, whatever else is there by now."""
        found = [*self._lost_tags(), *self._lost_manifests(is_last=True), *self._lost_blobs(is_last=True)]
        self._client.close()
        return found

    def _get(self, path: str) -> Answer:
        return self._client.request("GET", path, headers={"Accept": OCI_MANIFEST})

    def _lost_tags(self) -> list[str]:
        found = []
        for (repository, tag), possible in self._promises.tags.items():
            answer = self._get(f"/v2/{repository}/manifests/{tag}")
            digest = sha256(answer.body) if answer.status == 200 else None
            if answer.status not in (200, 404) or digest not in possible:
                found.append(f"tag {repository}:{tag} is {answer.status} {digest}, not one of {possible}")
            # From now on it has to stay what it is.
            self._promises.tags[repository, tag] = {digest}
        return found

    def _lost_sessions(self) -> list[str]:
        return [line for session in self._promises.sessions if (line := self._wrong_session(session))]

    def _wrong_session(self, session: Session) -> str:
        answer = self._get(session.location)
        if answer.status == 404 and session.may_be_gone:
            return ""
        if answer.status != 204:
            return f"session {session.location}: {answer.status}"
        offset = offset_of(answer, session)
        if session.acknowledged_bytes <= offset <= session.sent_bytes:
            return ""
        return (
            f"session {session.location} is at {offset}: "
            f"{session.acknowledged_bytes} were acknowledged, {session.sent_bytes} sent"
        )

    def _lost_manifests(self, *, is_last: bool) -> list[str]:
        found = []
        for key in self._sample(self._promises.manifests, is_last=is_last):
            if key not in self._promises.deleting:
                found += self._wrong("manifests", *key)
        for key in sorted(self._promises.deleting):
            # Asked for, and not answered: from now on it has to stay what it is.
            lines = self._wrong("manifests", *key, may_be_absent=True)
            found += lines
            if not lines and self._get(f"/v2/{key[0]}/manifests/{key[1]}").status == 404:
                self._promises.manifest_is_gone(*key)
                self._promises.acknowledged -= 1
        self._promises.deleting.clear()
        return found

    def _lost_blobs(self, *, is_last: bool) -> list[str]:
        chosen = {*self._promises.fresh, *self._sample(self._promises.blobs, is_last=is_last)}
        return [line for key in sorted(chosen) for line in self._wrong("blobs", *key)]

    def _returned(self) -> list[str]:
        """Find manifests whose deletion was acknowledged and that are back."""
        found = []
        for repository, digest in self._sample(self._promises.deleted, is_last=False):
            status = self._get(f"/v2/{repository}/manifests/{digest}").status
            if status != 404:
                found.append(f"manifests {repository} {digest}: deleted, and {status}")
        return found

    def _half_visible(self, unsure: Iterable[Key]) -> list[str]:
        """Look at everything that was not acknowledged: it is there as a whole, or not at all."""
        found: list[str] = []
        for key in sorted(self._promises.pending_blobs - set(self._promises.blobs)):
            found += self._wrong("blobs", *key, may_be_absent=True)
        manifests = set(self._promises.pending_manifests)
        for repository, tag in unsure:
            (digest,) = self._promises.tags[repository, tag]
            manifests |= {(repository, digest)} if digest else set()
        for repository, digest in sorted(manifests):
            found += self._wrong("manifests", repository, digest, may_be_absent=True)
            if self._get(f"/v2/{repository}/manifests/{digest}").status == 200:
                for blob in self._promises.images.get(digest, ()):
                    found += self._wrong("blobs", repository, blob)
        return found

    def _listings(self) -> list[str]:
        """Compare the tags that the server lists with those that it gives."""
        found: list[str] = []
        for repository in sorted({name for name, _ in self._promises.tags}):
            listing = self._get(f"/v2/{repository}/tags/list")
            listed = set(json.loads(listing.body)["tags"] or ()) if listing.status == 200 else set()
            there = {
                tag
                for (name, tag), possible in self._promises.tags.items()
                if name == repository and possible != {None}
            }
            if listed != there:
                found.append(f"{repository} lists {sorted(listed)} and gives {sorted(there)}")
        return found

    def _sample(self, keys: Iterable[Key], *, is_last: bool) -> list[Key]:
        every = sorted(keys) if isinstance(keys, set) else list(keys)
        if is_last:
            return every
        return [*every[-SAMPLE:], *self._random.sample(every, min(SAMPLE, len(every)))]

    def _wrong(self, kind: str, repository: str, digest: str, *, may_be_absent: bool = False) -> list[str]:
        answer = self._get(f"/v2/{repository}/{kind}/{digest}")
        if answer.status == 404 and may_be_absent:
            return []
        if answer.status != 200:
            return [f"{kind} {repository} {digest}: {answer.status}"]
        if sha256(answer.body) != digest:
            return [f"{kind} {repository} {digest}: {len(answer.body)} bytes of other content"]
        return []
