"""Seeded random cases: right requests, then wrong in structure, then wrong in bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from dockreg_tx.oci.digests import Digest
from tests.fuzz.server import BLOBS, FuzzServer
from tests.fuzz.words import (
    AUTHORIZATIONS,
    CODINGS,
    CONTENT_RANGES,
    HOSTS,
    LENGTHS,
    METHODS,
    NUMBERS,
    ODD_METHODS,
    RANGES,
    REPOSITORIES,
    TAGS,
    TOKENS,
    TYPES,
)
from tests.registry.world import OCI_INDEX


@dataclass
class Request:
    """One request before it is written down."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    is_chunked: bool = False
    version: str = "HTTP/1.1"


@dataclass(frozen=True)
class Case:
    """What one client sends, read by read, and how it ends."""

    pieces: tuple[bytes, ...]
    #: The client goes away instead of waiting for the server to close.
    leaves: bool
    #: How many bytes of answers the client takes before it stops reading for a while; None for all.
    takes_bytes: int | None = None


class Cases:
    """A source of cases for one server; the same seed and server give the same cases."""

    def __init__(self, rng: random.Random, server: FuzzServer) -> None:
        self._rng = rng
        self._server = server

    def next(self) -> Case:
        """Return another case."""
        rng = self._rng
        requests = [self._request() for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 5)))]
        for request in requests:
            if rng.random() < 0.2:
                self._bend(request)
        data = b"".join(self._written(request) for request in requests)
        if rng.random() < 0.25:
            for _ in range(rng.choice((1, 1, 1, 2, 4, 12))):
                data = self._mutated(data)
        takes_bytes = rng.choice((0, 100, 1000)) if rng.random() < 0.1 else None
        return Case(tuple(self._cut(data)), rng.random() < 0.3, takes_bytes)

    # --- requests

    def _request(self) -> Request:
        rng = self._rng
        make = rng.choice(
            (self._fetch, self._fetch, self._list, self._begin, self._go_on, self._go_on, self._manifest)
        )
        request: Request = make()
        request.headers.insert(0, ("Host", rng.choice(HOSTS)))
        if rng.random() < 0.98:
            request.headers.append(("Authorization", rng.choice(AUTHORIZATIONS)))
        if rng.random() < 0.05:
            request.headers.append(("Expect", rng.choice(("100-continue", "100-Continue", "200-ok"))))
        if rng.random() < 0.06:
            request.headers.append(("Connection", rng.choice(("close", "keep-alive", "upgrade", ","))))
        if rng.random() < 0.04:
            request.version = rng.choice(
                ("HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1", "", "X")
            )
        return request

    def _name(self) -> str:
        return self._rng.choice(REPOSITORIES)

    def _digest(self) -> str:
        rng = self._rng
        known = (*self._server.digests * 3, str(self._server.manifest_digest))
        odd = (
            str(Digest.of(rng.randbytes(3))), "sha256:bad", "nonsense", f"sha384:{'a' * 96}",
            f"sha512:{'b' * 128}",
            f"SHA256:{'A' * 64}", f"sha256:{'A' * 64}", ":", "sha256:" + "0" * 5000, "sha256%3A" + "0" * 64,
        )  # fmt: skip
        return rng.choice(known if rng.random() < 0.75 else odd)

    def _fetch(self) -> Request:
        rng = self._rng
        if rng.random() < 0.6:
            path, headers = f"/v2/{self._name()}/blobs/{self._digest()}", []
            if rng.random() < 0.5:
                headers.append(("Range", rng.choice(RANGES)))
        else:
            reference = rng.choice((*TAGS, self._digest()))
            path, headers = f"/v2/{self._name()}/manifests/{reference}", [("Accept", "*/*")]
        if rng.random() < 0.15:
            condition = rng.choice((f'"{self._digest()}"', "*", "W/", "x", '"' * 99))
            headers.append((rng.choice(("If-None-Match", "If-Range")), condition))
        return Request(rng.choice((*["GET"] * 40, *["HEAD"] * 9, "DELETE")), path, headers)

    def _list(self) -> Request:
        rng = self._rng
        path = rng.choice(
            (
                "/v2/", "/v2", "/", "/healthz", "/readyz", "/v2/_catalog", "/v1/_ping", "/v1/search",
                "/v1/x", "/x",
                f"/v2/{self._name()}/tags/list", f"/v2/{self._name()}/tags/list", "/v2/_oci/ext/discover",
                "*",
                f"/v2/{self._name()}/referrers/{self._digest()}", "http://h/v2/", "//v2/", "/%2e%2e/",
                "/v2/%ff/",
            )
        )  # fmt: skip
        pairs = [
            f"{key}={self._escaped(rng.choice(values))}"
            for key, values in (
                ("n", NUMBERS), ("last", (*TAGS, *REPOSITORIES)), ("q", TAGS), ("artifactType", TYPES),
            )
            if rng.random() < 0.3
        ]  # fmt: skip
        query = "?" + "&".join(pairs) if pairs else ""
        return Request(rng.choice(("GET", "GET", "GET", "HEAD")), path + query, [])

    def _escaped(self, text: str) -> str:
        return text if self._rng.random() < 0.1 else quote(text, safe="%/")

    def _begin(self) -> Request:
        rng = self._rng
        query = rng.choice(
            (
                "", "", f"?digest={self._digest()}", f"?mount={self._digest()}&from={self._name()}",
                f"?mount={self._digest()}", "?digest-algorithm=md5", "?digest-algorithm=sha512",
                "?mount=&from=",
                "?" + "digest=x&" * 1001,
            )
        )  # fmt: skip
        body = rng.choice(BLOBS) if rng.random() < 0.4 else b""
        path = f"/v2/{self._name()}/blobs/uploads/"
        return Request("POST", path + query, [], body, is_chunked=bool(body) and rng.random() < 0.3)

    def _go_on(self) -> Request:
        rng = self._rng
        sessions = self._server.open_uploads[-8:]
        owner, upload = self._name(), rng.choice(("x", "..", "a" * 300, "%00"))
        if sessions and rng.random() < 0.9:
            owner, upload = rng.choice(sessions)
        method = rng.choice(("PATCH", "PATCH", "PATCH", "PUT", "PUT", "GET", "HEAD", "DELETE"))
        headers = [("Content-Range", rng.choice(CONTENT_RANGES))] if rng.random() < 0.4 else []
        sizes = (0, 1, 19, 500, 70_000) if rng.random() < 0.1 else (0, 1, 19, 500)
        content = rng.choice((BLOBS[1], BLOBS[1][:4], BLOBS[1][4:], rng.randbytes(rng.choice(sizes))))
        body = content if method in ("PATCH", "PUT") else b""
        query = ""
        if method == "PUT":
            right = str(Digest.of(content))
            query = rng.choice(("", f"?digest={right}", f"?digest={right}", f"?digest={self._digest()}"))
        target = f"/v2/{owner}/blobs/uploads/{upload}{query}"
        return Request(method, target, headers, body, is_chunked=rng.random() < 0.4)

    def _manifest(self) -> Request:
        rng = self._rng
        body = self._server.manifest
        if rng.random() < 0.6:
            body = self._odd_document()
        own = str(Digest.of(body))
        reference = rng.choice((*TAGS, own, own, self._digest()))
        query = "?" + "&".join(f"tag={rng.choice(TAGS)}" for _ in range(3)) if rng.random() < 0.15 else ""
        path = f"/v2/{self._name()}/manifests/{reference}{query}"
        headers = [("Content-Type", rng.choice(TYPES))]
        return Request("PUT", path, headers, body, is_chunked=rng.random() < 0.2)

    def _odd_document(self) -> bytes:
        rng = self._rng
        if rng.random() < 0.2:
            return rng.choice(
                (
                    b"", b"{", b"null", b"[]", b"1", b'"x"', b"[" * 10_000, b'{"a":' * 5000,
                    b"\xff\xfe{}", b"NaN",
                    b"{" + b" " * 17_000 + b"}", b'{"schemaVersion":1}', b"1e999", b"9" * 5000,
                    b'{"a":1,"a":2}',
                )
            )  # fmt: skip
        document = json.loads(self._server.manifest)
        for _ in range(rng.choice((1, 1, 2, 4))):
            self._bend_json(document)
        return json.dumps(document).encode("utf-8", "surrogatepass")

    def _bend_json(self, document: object) -> None:
        """Put something odd in some place, or take something away."""
        rng = self._rng
        odd: Sequence[object] = (
            None, True, -1, 0, 10**30, 1.5, float("inf"), "", "x", "\ud800", "\x00", [], {}, [[]],
            {"": {}}, "é" * 500,
            self._digest(), OCI_INDEX, [self._digest()], {"digest": self._digest(), "size": 1,
            "mediaType": "a/b"},
            "a" * 5000, {"a": 5}, [None] * 50,
        )  # fmt: skip
        keys = (
            "schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations",
            "artifactType",
            "digest", "size", "urls", "data", "platform", "fsLayers",
        )  # fmt: skip
        while True:
            if isinstance(document, dict):
                key: object = rng.choice((*keys, *document)) if document else rng.choice(keys)
                inside = document.get(key)
            elif isinstance(document, list) and document:
                key = rng.randrange(len(document))
                inside = document[key]
            else:
                return
            if isinstance(inside, dict | list) and inside and rng.random() < 0.6:
                document = inside
                continue
            if isinstance(document, dict) and rng.random() < 0.25:
                document.pop(key, None)
            else:
                document[key] = rng.choice(odd)  # type: ignore[call-overload]  # a key of either kind
            return

    # --- structure

    def _bend(self, request: Request) -> None:
        """Make something of a request's structure wrong, or merely unusual."""
        rng = self._rng
        kind = rng.randrange(9)
        if kind == 0:
            request.method = rng.choice((*METHODS, *ODD_METHODS))
        elif kind == 1:
            request.headers.append(("Content-Length", rng.choice(LENGTHS)))
        elif kind == 2:
            request.headers.append(("Transfer-Encoding", rng.choice(CODINGS)))
        elif kind == 3:
            request.headers += [("X-" + "y" * rng.choice((1, 100, 9000)), "z")] * rng.choice((1, 20, 600))
        elif kind == 4 and request.headers:
            request.headers.append(rng.choice(request.headers))
        elif kind == 5 and request.headers:
            request.headers.remove(rng.choice(request.headers))
        elif kind == 6:
            request.target += rng.choice(
                ("?", "/", "%", "%zz", "#f", "//", "?n=%ff", ";x", "x" * 9000, "\\", "é")
            )
        elif kind == 7:
            request.body = request.body or rng.randbytes(rng.choice((1, 30, 5000)))
        else:
            name = rng.choice(("Content-Length ", " X", "X\x00", "Tränsfer", "Content_Length", "", "a:b"))
            request.headers.append((name, rng.choice(("", "5", "chunked", "\x00", "ü" * 50))))

    def _written(self, request: Request) -> bytes:
        rng = self._rng
        headers = list(request.headers)
        body = request.body
        if request.is_chunked:
            headers.append(("Transfer-Encoding", "chunked"))
            body = self._chunked(body)
        elif body or request.method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(body))))
        lines = [" ".join(part for part in (request.method, request.target, request.version) if part)]
        lines += [f"{name}: {value}" for name, value in headers]
        end = "\n" if rng.random() < 0.02 else "\r\n"
        return (end.join(lines) + end * 2).encode("utf-8", "surrogatepass") + body

    def _chunked(self, body: bytes) -> bytes:
        rng = self._rng
        written, position = [], 0
        while position < len(body):
            size = rng.randint(1, max(1, len(body) // 2))
            piece = body[position : position + size]
            position += size
            number = rng.choice((f"{len(piece):x}", f"{len(piece):X}", f"000{len(piece):x}"))
            if rng.random() < 0.05:
                number = rng.choice(
                    ("-1", "f" * 17, "", "x", f"{len(piece):x};a=b", "0x5", f"{len(piece):x} ")
                )
            written.append(number.encode() + b"\r\n" + piece + b"\r\n")
        trailer = rng.choice((b"", b"", b"", b"X: y\r\n", b"Content-Length: 5\r\n", b"\x00\r\n", b"y" * 9000))
        return b"".join(written) + b"0\r\n" + trailer + b"\r\n"

    # --- bytes

    def _mutated(self, data: bytes) -> bytes:
        rng = self._rng
        if not data:
            return data
        # Heads are short and bodies long: most damage should hit a head.
        reach = len(data) if rng.random() < 0.4 else min(len(data), 400)
        at = rng.randrange(reach)
        kind = rng.randrange(7)
        token = rng.choice(TOKENS)
        rest = (
            bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
            bytes([rng.randrange(256)]) + data[at + 1 :],
            data[at + rng.choice((1, 2, 10, 100)) :],
            data[at : at + rng.choice((1, 5, 50))] * rng.choice((2, 3, 40)) + data[at:],
            b"",
            token + data[at:],
            token + data[at:],
        )
        return data[:at] + rest[kind]

    def _cut(self, data: bytes) -> list[bytes]:
        """Cut data into reads, most often few."""
        rng = self._rng
        if rng.random() < 0.5 or len(data) < 2:
            return [data] if data else []
        if rng.random() < 0.1 and len(data) < 600:
            return [data[at : at + 1] for at in range(len(data))]
        cuts = sorted(rng.sample(range(1, len(data)), min(rng.randint(1, 6), len(data) - 1)))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
