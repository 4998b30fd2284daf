"""Random histories of a registry on disk, step by step against a model that is a handful of dicts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dockreg_tx.oci.digests import Digest
from tests.fuzz.disk_server import DiskServer
from tests.registry.world import OCI_MANIFEST
from tests.web.wire import WireAnswer

CONTENTS = (b"", b"{}", b"layer one", b"the second layer", bytes(range(256)) * 20)
DIGESTS = tuple(str(Digest.of(content)) for content in CONTENTS)
NAMES = ("a", "a/b", "team/app")
TAGS = ("v1", "v2", "A", "_")
SUBJECTS = (DIGESTS[2], str(Digest.of(b"a subject")))

_contents = st.sampled_from(CONTENTS)
_names = st.sampled_from(NAMES)
_tags = st.sampled_from(TAGS)


def _same(expected: object, found: object, what: str) -> None:
    assert expected == found, f"{what}: expected {expected!r}, found {found!r}"


class DiskMachine(RuleBasedStateMachine):
    """A history of one registry."""

    def __init__(self) -> None:
        super().__init__()
        self.server = DiskServer()

    def teardown(self) -> None:
        """Remove the registry."""
        self.server.destroy()

    @rule(chance=st.integers(0, 3))
    def restart(self, chance: int) -> None:
        """Stop and start, now and then, as it takes long: whatever was acknowledged survives."""
        if chance == 0:
            self.server.restart()


class UploadMachine(DiskMachine):
    """One upload session at a time: what it holds, where it goes on, what it becomes."""

    def __init__(self) -> None:
        super().__init__()
        self.location = ""
        self.held = b""
        #: Sessions that ended.
        self.past: list[str] = []
        self.blobs: set[bytes] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return bool(self.location)

    def _end(self) -> None:
        self.past.append(self.location)
        self.location, self.held = "", b""

    def _check_session(self, status: int, answer: WireAnswer) -> None:
        _same(status, answer.status, f"status ({answer.body!r})")
        _same(self.location, answer.headers.get("location"), "Location")
        _same(f"0-{max(len(self.held) - 1, 0)}", answer.headers.get("range"), "Range")

    def _ranges(self, chunk: bytes, kind: str) -> dict[str, str]:
        start = len(self.held) + (3 if kind == "ahead" else 0)
        if kind == "none" or not chunk:
            return {}
        return {"Content-Range": f"{start}-{start + len(chunk) - 1 + (kind == 'long')}"}

    @precondition(lambda self: not self.is_open)
    @rule()
    def begin(self) -> None:
        """Open a session."""
        answer = self.server.call("POST", "/v2/r/blobs/uploads/")
        self.location = answer.headers["location"]
        self._check_session(202, answer)

    @precondition(lambda self: self.is_open)
    @rule(chunk=_contents, kind=st.sampled_from(("none", "right", "ahead", "long")), is_chunked=st.booleans())
    def patch(self, chunk: bytes, kind: str, is_chunked: bool) -> None:
        """Append a chunk, announced rightly, at the wrong place, or with the wrong size."""
        headers = self._ranges(chunk, kind)
        answer = self.server.call("PATCH", self.location, chunk, headers=headers, is_chunked=is_chunked)
        if headers and kind == "ahead":
            self._check_session(416, answer)
        elif headers and kind == "long":
            _same(400, answer.status, "a chunk that is too short")
        else:
            self.held += chunk
            self._check_session(202, answer)

    @precondition(lambda self: self.is_open)
    @rule(chunk=_contents)
    def break_patch(self, chunk: bytes) -> None:
        """Lose the connection in a PATCH: what arrived is kept."""
        self.server.break_off("PATCH", self.location, chunk, headers={})
        self.held += chunk

    @precondition(lambda self: self.is_open)
    @rule(chunk=_contents)
    def break_put(self, chunk: bytes) -> None:
        """Lose the connection in a PUT: the session is as before."""
        self.server.break_off("PUT", f"{self.location}?digest={DIGESTS[0]}", chunk, headers={})

    @precondition(lambda self: self.is_open)
    @rule()
    def status(self) -> None:
        """Ask how far it is."""
        self._check_session(204, self.server.call("GET", self.location))

    @precondition(lambda self: self.is_open)
    @rule(
        chunk=_contents,
        kind=st.sampled_from(("none", "right", "ahead")),
        algorithm=st.sampled_from(("sha256", "sha512")),
        is_chunked=st.booleans(),
    )
    def finish(self, chunk: bytes, kind: str, algorithm: str, is_chunked: bool) -> None:
        """End it with the right digest."""
        digest = str(Digest.of(self.held + chunk, algorithm))
        headers = self._ranges(chunk, kind)
        target = f"{self.location}?digest={digest}"
        answer = self.server.call("PUT", target, chunk, headers=headers, is_chunked=is_chunked)
        if headers and kind == "ahead":
            self._check_session(416, answer)
            return
        _same((201, f"/v2/r/blobs/{digest}"), (answer.status, answer.headers.get("location")), "PUT")
        _same(self.held + chunk, self.server.call("GET", f"/v2/r/blobs/{digest}").body, "the new blob")
        self.blobs.add(self.held + chunk)
        self._end()

    @precondition(lambda self: self.is_open)
    @rule(chunk=_contents)
    def finish_wrongly(self, chunk: bytes) -> None:
        """End it with another digest: the session is dropped."""
        wrong = Digest.of(self.held + chunk + b"!")
        answer = self.server.call("PUT", f"{self.location}?digest={wrong}", chunk)
        _same(400, answer.status, "PUT with the wrong digest")
        self._end()

    @precondition(lambda self: self.is_open)
    @rule(query=st.sampled_from(("", "?digest=", "?digest=sha256:bad", "?digest=md5:00")))
    def finish_without_digest(self, query: str) -> None:
        """End it with no digest that counts: the session stays."""
        _same(400, self.server.call("PUT", self.location + query, b"x").status, f"PUT {query}")

    @precondition(lambda self: self.is_open)
    @rule()
    def cancel(self) -> None:
        """Cancel it."""
        _same(204, self.server.call("DELETE", self.location).status, "DELETE")
        self._end()

    @precondition(lambda self: self.past)
    @rule(method=st.sampled_from(("GET", "PATCH", "PUT", "DELETE")))
    def touch_the_past(self, method: str) -> None:
        """Touch a session that ended: it is unknown."""
        answer = self.server.call(method, f"{self.past[-1]}?digest={DIGESTS[0]}", b"")
        _same(404, answer.status, f"{method} of an old session")

    @precondition(lambda self: self.blobs)
    @rule()
    def read_all(self) -> None:
        """Read every blob: it is what it was."""
        for content in self.blobs:
            answer = self.server.call("GET", f"/v2/r/blobs/{Digest.of(content)}")
            if answer.status == 404:  # it went in by its SHA-512
                answer = self.server.call("GET", f"/v2/r/blobs/{Digest.of(content, 'sha512')}")
            _same((200, content), (answer.status, answer.body), "a blob")


@dataclass
class Repository:
    """What the model knows of one repository."""

    blobs: set[str] = field(default_factory=set)
    #: Content by digest.
    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class RepositoryMachine(DiskMachine):
    """Blobs, manifests and tags of several repositories."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Repository] = {}

    def _of(self, name: str) -> Repository:
        return self.model.get(name, Repository())

    def _made(self, name: str) -> Repository:
        return self.model.setdefault(name, Repository())

    # --- writing

    @rule(name=_names, content=_contents)
    def push_blob(self, name: str, content: bytes) -> None:
        """Push a blob in one request."""
        digest = str(Digest.of(content))
        answer = self.server.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)
        _same(201, answer.status, "POST")
        self._made(name).blobs.add(digest)

    @rule(source=_names, name=_names, digest=st.sampled_from(DIGESTS), with_from=st.booleans())
    def mount(self, source: str, name: str, digest: str, with_from: bool) -> None:
        """Mount a blob of a given repository, or of any."""
        query = f"?mount={digest}" + (f"&from={source}" if with_from else "")
        answer = self.server.call("POST", f"/v2/{name}/blobs/uploads/{query}")
        sources = [source] if with_from else list(NAMES)
        is_held = any(digest in self._of(each).blobs for each in sources)
        _same(201 if is_held else 202, answer.status, "mount")
        if is_held:
            self._made(name).blobs.add(digest)

    @rule(
        name=_names,
        tag=st.none() | _tags,
        layers=st.lists(st.sampled_from(range(len(CONTENTS))), max_size=2),
        subject=st.none() | st.sampled_from(SUBJECTS),
        size_error=st.sampled_from((0, 0, 0, 1)),
    )
    def put_manifest(
        self, name: str, tag: str | None, layers: list[int], subject: str | None, size_error: int
    ) -> None:
        """Push a manifest by tag or digest; it is taken when the repository holds what it needs."""
        content = _manifest(layers, subject, size_error)
        digest = str(Digest.of(content))
        target = f"/v2/{name}/manifests/{tag or digest}"
        answer = self.server.call("PUT", target, content, headers={"Content-Type": OCI_MANIFEST})
        needed = {DIGESTS[1], *(DIGESTS[layer] for layer in layers)}
        if size_error or not needed <= self._of(name).blobs:
            _same(400, answer.status, "a manifest without its content")
            return
        _same((201, digest), (answer.status, answer.headers.get("docker-content-digest")), "PUT")
        repository = self._made(name)
        repository.manifests[digest] = content
        if tag is not None:
            repository.tags[tag] = digest

    @rule(name=_names, tag=_tags)
    def delete_tag(self, name: str, tag: str) -> None:
        """Remove a tag; its manifest stays."""
        was_there = self._of(name).tags.pop(tag, None) is not None
        answer = self.server.call("DELETE", f"/v2/{name}/manifests/{tag}")
        _same(202 if was_there else 404, answer.status, "DELETE of a tag")

    @rule(name=_names, data=st.data())
    def delete_manifest(self, name: str, data: st.DataObject) -> None:
        """Remove a manifest with all its tags."""
        repository = self._of(name)
        digest = data.draw(st.sampled_from(sorted(repository.manifests) or [DIGESTS[0]]))
        was_there = repository.manifests.pop(digest, None) is not None
        repository.tags = {tag: target for tag, target in repository.tags.items() if target != digest}
        answer = self.server.call("DELETE", f"/v2/{name}/manifests/{digest}")
        _same(202 if was_there else 404, answer.status, "DELETE of a manifest")

    @rule(name=_names, digest=st.sampled_from(DIGESTS))
    def delete_blob(self, name: str, digest: str) -> None:
        """Unlink a blob from one repository."""
        was_there = digest in self._of(name).blobs
        self._of(name).blobs.discard(digest)
        answer = self.server.call("DELETE", f"/v2/{name}/blobs/{digest}")
        _same(202 if was_there else 404, answer.status, "DELETE of a blob")

    # --- reading

    @rule(name=_names, content=_contents, method=st.sampled_from(("GET", "HEAD")))
    def read_blob(self, name: str, content: bytes, method: str) -> None:
        """Read a blob: it is there exactly when it is linked here."""
        digest = str(Digest.of(content))
        answer = self.server.call(method, f"/v2/{name}/blobs/{digest}")
        is_held = digest in self._of(name).blobs
        _same(200 if is_held else 404, answer.status, f"{method} of a blob")
        if is_held:
            _same(str(len(content)), answer.headers["content-length"], "Content-Length")
            _same(content if method == "GET" else b"", answer.body, "the blob")

    @rule(name=_names, tag=_tags)
    def read_tag(self, name: str, tag: str) -> None:
        """Read a tag: it gives the manifest it was last set to, byte by byte."""
        repository = self._of(name)
        answer = self.server.call("GET", f"/v2/{name}/manifests/{tag}")
        digest = repository.tags.get(tag)
        if digest is None:
            code = "MANIFEST_UNKNOWN" if name in self.model else "NAME_UNKNOWN"
            _same((404, code), (answer.status, _code(answer)), "GET of a tag that is not there")
        else:
            _same((200, repository.manifests[digest]), (answer.status, answer.body), "GET of a tag")
            _same(digest, answer.headers.get("docker-content-digest"), "its digest")

    @rule(name=_names)
    def read_manifests(self, name: str) -> None:
        """Read every manifest by its digest, tagged or not."""
        for digest, content in self._of(name).manifests.items():
            answer = self.server.call("GET", f"/v2/{name}/manifests/{digest}")
            _same((200, content), (answer.status, answer.body), "GET by digest")

    @rule(name=_names, n=st.none() | st.integers(0, 5), last=st.sampled_from(("", "B", "v", "zz")) | _tags)
    def list_tags(self, name: str, n: int | None, last: str) -> None:
        """List a page of tags: in byte order, with a Link exactly when there is more."""
        answer = self.server.call("GET", _page(f"/v2/{name}/tags/list", n, last))
        if name not in self.model:
            _same((404, "NAME_UNKNOWN"), (answer.status, _code(answer)), "tags of nothing")
            return
        tags = [tag for tag in sorted(self._of(name).tags) if tag > last]
        _same(tags[:n], json.loads(answer.body)["tags"], "tags")
        _same(n is not None and 0 < n < len(tags), "link" in answer.headers, "Link")

    @rule(n=st.none() | st.integers(0, 4), last=st.sampled_from(("", "a/", "b")) | _names)
    def list_repositories(self, n: int | None, last: str) -> None:
        """List the catalog: every repository that ever had content."""
        answer = self.server.call("GET", _page("/v2/_catalog", n, last))
        names = [name for name in sorted(self.model) if name > last]
        _same(names[:n], json.loads(answer.body)["repositories"], "the catalog")
        _same(n is not None and 0 < n < len(names), "link" in answer.headers, "Link")

    @rule(text=st.sampled_from(("", "a", "B", "/", "team", "zz")))
    def search(self, text: str) -> None:
        """Search: every name with the text is found."""
        answer = self.server.call("GET", f"/v1/search?q={text}")
        names = [name for name in sorted(self.model) if text.lower() in name]
        _same(names, [result["name"] for result in json.loads(answer.body)["results"]], "a search")

    @rule(name=_names, subject=st.sampled_from(SUBJECTS))
    def list_referrers(self, name: str, subject: str) -> None:
        """List referrers: the manifests with this subject that are still there."""
        answer = self.server.call("GET", f"/v2/{name}/referrers/{subject}")
        expected = sorted(
            digest
            for digest, content in self._of(name).manifests.items()
            if json.loads(content).get("subject", {}).get("digest") == subject
        )
        found = [entry["digest"] for entry in json.loads(answer.body)["manifests"]]
        _same((200, expected), (answer.status, found), "referrers")

    @invariant()
    def tags_have_manifests(self) -> None:
        """Check that the model itself is sound."""
        for repository in self.model.values():
            assert set(repository.tags.values()) <= set(repository.manifests)


def _manifest(layers: list[int], subject: str | None, size_error: int) -> bytes:
    def descriptor(number: int) -> dict[str, object]:
        size = len(CONTENTS[number]) + size_error
        return {"mediaType": "application/x.test", "digest": DIGESTS[number], "size": size}

    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(1),
        "layers": [descriptor(layer) for layer in layers],
    }
    if subject is not None:
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 7}
    return json.dumps(document).encode()


def _page(path: str, n: int | None, last: str) -> str:
    return f"{path}?last={last}" + ("" if n is None else f"&n={n}")


def _code(answer: WireAnswer) -> str:
    return str(json.loads(answer.body)["errors"][0]["code"])


MACHINES: dict[str, type[DiskMachine]] = {"upload": UploadMachine, "repository": RepositoryMachine}


def check_machine(
    machine: type[DiskMachine],
    *,
    runs: int,
    steps: int,
    seed: int | None = None,
    phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink),
) -> None:
    """Run histories; a difference is raised with the shortest history that shows it.

    Args:
        machine: what to run.
        runs: how many histories.
        steps: most steps of each.
        seed: of the random choices; None for the same ones every time.
        phases: without ``shrink`` the first history that shows a difference is good enough.
    """
    chosen = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
    )
    seeded = machine if seed is None else _seeded(seed)(machine)
    run_state_machine_as_test(seeded, settings=chosen)


_seeded = seed
