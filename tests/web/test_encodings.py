"""The repository that is authorised is the one that is touched, however a path is written.

GHSA-qj39-pjf2-wmrc (Harbor): ``..`` in a path crossed into another project after the rights were checked.
"""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.task import Clock

from dockreg_tx.access.callers import Caller
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.web.guard import Guard, Target
from dockreg_tx.web.routes import RegistryResource
from dockreg_tx.web.site import RegistrySite
from tests.registry.world import OCI_MANIFEST, World
from tests.web.exchange import exchange
from tests.web.test_matrix import basic
from tests.web.tokens import TokenCase

PATHS = 10_000
LAYER = b"nobody in the team may read this"
DIGEST = Digest.of(LAYER)
#: The caller may do everything in ``team/**`` and nothing elsewhere.
USER = "team"
MINE, OTHERS = "team/app", "other/secret"
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH")
REFUSALS = frozenset({400, 401, 403, 404, 405})
#: What stands for a slash, or could to somebody.
SLASHES = (
    "/", "//", "///", "/./", "/../", "/.//", "%2f", "%2F", "%5c", "%5C", "\\", "/%2e/", "/%2E%2e/", "/..%2f",
    "%252f", "%c0%af", "%C1%9C", "%e0%80%af", "%ef%bc%8f", "%e2%81%84", "%e2%88%95", "/;/", "/;x=y/", "/%20/",
    "/%00/", "%00/", "%2f..%2f", "/.;/", "/..;/", "/%09/", "%0d%0a/", "+/", "/~/", "?/", "#/",
)  # fmt: skip
#: What stands for two dots.
DOTS = (
    "..", "%2e%2e", ".%2e", "%2E.", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae.", "%ef%bc%8e%ef%bc%8e", "...",
    ".", "..;", "..%00", "%2e%2e%2f", "..%5c", "%u002e%u002e", "..%c0%af", "%uff0e%uff0e", "%%32%65%%32%65",
)  # fmt: skip
#: What looks like a letter of ``team`` and is none; written as UTF-8.
ALIKE = {
    "a": "\u0430",
    "e": "\u0435",
    "t": "\uff54",
    "o": "\u043e",
    "s": "\u0455",
    "c": "\u0441",
    "m": "\uff4d",
}
ENDS = (
    "",
    "/",
    "//",
    "%00",
    ";",
    ";x",
    "%20",
    ".",
    "..",
    "/..",
    "/.",
    "%2f",
    "%",
    "%2",
    "%zz",
    "%0a",
    "#x",
    "?x=/../",
)
FRONTS = (
    "http://registry.example.org", "HTTPS://other.example", "http://x@y", "http:/",
    "//host", "/", "/.", "/..", "/%2e%2e", "http://[::1]:5000", "ftp://x",
    "/v2/..", "/x/..", "/v2/team/app/../../..",
)  # fmt: skip


class Paths:
    """Writes paths in more ways than there should be."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def target(self) -> str:
        """Return one request target."""
        rng = self._random
        repository = rng.choice((MINE, OTHERS, MINE, OTHERS, "team/other/secret", "other/secret/team/app"))
        path = f"/v2/{repository}/{self._rest()}"
        if rng.random() < 0.3:
            path = self._crossing()
        ways = (self._encode, self._encode, self._slash, self._dots, self._case, self._alike, self._cut)
        for _ in range(rng.choice((0, 1, 1, 2))):
            path = rng.choice(ways)(path)
        front = rng.choice(FRONTS) if rng.random() < 0.3 else ""
        return front + path + (rng.choice(ENDS) if rng.random() < 0.3 else "")

    def _rest(self) -> str:
        return self._random.choice(
            (
                "manifests/v1", "manifests/latest", f"blobs/{DIGEST}", "tags/list", "blobs/uploads/",
                "manifests/v2", f"referrers/{DIGEST}", f"manifests/{DIGEST}", "blobs/uploads/no-such-session",
            )
        )  # fmt: skip

    def _crossing(self) -> str:
        """Return a path that begins in one repository and would like to end in the other."""
        rng = self._random
        first, second = rng.sample((MINE, OTHERS), 2)
        up = "/".join(rng.choice(DOTS) for _ in range(rng.choice((1, 2, 3, 4, 5))))
        middle = rng.choice(("", "manifests/", "blobs/", "blobs/uploads/", "tags/", "manifests/v1/"))
        return f"/v2/{first}/{middle}{up}/{rng.choice(('', 'v2/'))}{second}/{self._rest()}"

    def _encode(self, path: str) -> str:
        """Escape some characters, once or twice, in either case."""
        rng = self._random
        share = rng.choice((0.02, 0.3))
        found = []
        for each in path:
            text = each
            if each.isascii() and rng.random() < share:
                text = f"%{ord(each):02{rng.choice('xX')}}"
                text = text.replace("%", "%25") if rng.random() < 0.02 else text
            found.append(text)
        return "".join(found)

    def _replace(self, path: str, old: str, new: str) -> str:
        """Replace one of the places."""
        places = [match.start() for match in re.finditer(re.escape(old), path)]
        if not places:
            return path
        at = self._random.choice(places)
        return path[:at] + new + path[at + len(old) :]

    def _slash(self, path: str) -> str:
        return self._replace(path, "/", self._random.choice(SLASHES))

    def _dots(self, path: str) -> str:
        return self._replace(path, "/", f"/{self._random.choice(DOTS)}/")

    def _case(self, path: str) -> str:
        return "".join(
            each.swapcase() if each.isascii() and self._random.random() < 0.1 else each for each in path
        )

    def _alike(self, path: str) -> str:
        letter = self._random.choice(list(ALIKE))
        bytes_ = ALIKE[letter].encode()
        new = (
            "".join(f"%{each:02X}" for each in bytes_)
            if self._random.random() < 0.7
            else bytes_.decode("latin-1")
        )
        return self._replace(path, letter, new)

    def _cut(self, path: str) -> str:
        return path[: self._random.randrange(1, len(path) + 1)]


def path_of(target: str) -> str:
    """Return a target without query, scheme and authority."""
    return re.sub(r"\Ahttps?://[^/?#]*", "", target.partition("?")[0], flags=re.IGNORECASE)


def plain_name(target: str) -> str | None:
    """Return the repository of a target by a reading of our own: decoded once, nothing else changed."""
    decoded = unquote_to_bytes(path_of(target).encode("latin-1")).decode("utf-8", "replace")
    match = re.fullmatch(r"/v2/(.+)/(?:manifests|blobs|tags|referrers|blobs/uploads)/[^/]*/?", decoded)
    if match is None:
        return None
    return match[1].removesuffix("/blobs") if re.search(r"/blobs/uploads/[^/]*/?\Z", decoded) else match[1]


class EncodingTests(TokenCase):
    """10,000 ways to write a path, by a user of one of the two repositories."""

    timeout = 300

    async def fill(self) -> None:
        """Fill both repositories, and write down who is let pass and what is touched from now on."""
        await super().fill()
        await self.world.put("v1", await self.world.image(b"a layer of the team"))
        other = RepositoryName(OTHERS)
        await self.world.push_blob(LAYER, other)
        # Made elsewhere, so that the layer is not linked to the repository of the team.
        self.secret = await World().image(LAYER)
        self.passed: list[RepositoryName | None] = []
        self.touched: set[RepositoryName] = set()
        check = Guard.check

        def checked(guard: Guard, caller: Caller, target: Target) -> None:
            check(guard, caller, target)
            self.passed.append(target.repository)

        self.patch(Guard, "check", checked)
        for name, method in inspect.getmembers(self.world.records, inspect.ismethod):
            if not name.startswith("_"):
                setattr(self.world.records, name, self.watched(method))
        self.site = RegistrySite(
            RegistryResource(self._app()),
            clock=Clock(),
            new_request_id=lambda: "id",
            header_timeout_seconds=10,
        )
        self.authorization = basic(USER, "secret")["Authorization"]

    def watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of the records that notes the repositories it is asked for."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            for each in (*args, *kwargs.values()):
                name = each if isinstance(each, RepositoryName) else getattr(each, "repository", None)
                if isinstance(name, RepositoryName):
                    self.touched.add(name)
            return method(*args, **kwargs)

        return watched

    def send(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to a request."""
        headers = {"Authorization": self.authorization, "Content-Type": OCI_MANIFEST}
        answer = exchange(self.site, method, target, headers=headers, body=body)
        return answer.status, answer.body

    async def test_ghsa_qj39_pjf2_wmrc_paths(self) -> None:
        """Only the repository that was authorised is touched; everything else is refused."""
        paths = Paths(39)
        rng = random.Random(40)
        manifest = await self.world.image(b"a layer of the team")
        self.touched.clear()
        statuses: dict[int, int] = {}
        for number in range(PATHS):
            method, target = rng.choice(METHODS), paths.target()
            body = rng.choice((b"", manifest, self.secret)) if method == "PUT" else b""
            self.passed.clear()
            self.touched.clear()
            status, answer = self.send(method, target, body)
            statuses[status] = statuses.get(status, 0) + 1
            case = f"{number}: {method} {target} gave {status}"
            self.assertLess(status, 500, case)
            if re.search("%(2f|5c|00)", path_of(target).lower()):
                # Another path to a proxy before us.
                self.assertEqual(400, status, case)
            self.assertLessEqual(len(self.passed), 1, case)
            self.assertLessEqual(self.touched, set(self.passed), case)
            for name in self.touched:
                self.assertTrue(name.text.startswith("team/"), case)
                self.assertEqual(plain_name(target), name.text, case)
            if not self.passed:
                self.assertIn(status, REFUSALS | {200} if is_open(target) else REFUSALS, case)
            self.assertNotIn(LAYER, answer, case)
        # They were no refusals alone: else nothing would have been tested.
        for status in (200, 201, 202, 400, 403, 404, 405):
            self.assertGreater(statuses.get(status, 0), 5, statuses)

    async def test_watch(self) -> None:
        """A request that reads another repository than it was let pass for would be noticed."""
        self.send("GET", f"/v2/{MINE}/manifests/v1", b"")
        self.assertEqual(({RepositoryName(MINE)}, [RepositoryName(MINE)]), (self.touched, self.passed))
        await self.world.records.manifest(RepositoryName(OTHERS), DIGEST)
        self.assertIn(RepositoryName(OTHERS), self.touched)


def is_open(target: str) -> bool:
    """Tell whether a target is the root, whose 200 tells nothing."""
    return plain_name(target) is None
