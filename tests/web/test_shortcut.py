"""The short way leads where Klein leads, or nowhere."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import HTTPException

from dockreg_tx.access.grants import anonymous_principal
from dockreg_tx.web.guard import Guard
from dockreg_tx.web.routes import Endpoint, registry_app
from dockreg_tx.web.shortcut import TARGETS_LIMIT, Shortcut
from dockreg_tx.web.table import registry_routes
from tests.registry.world import World
from tests.web.api import FixedAuthenticator, endpoints_of

DIGEST = "sha256:" + "a" * 64
UPLOAD = "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
#: What paths are made of, keywords in the wrong places included.
SEGMENTS = st.sampled_from(
    [
        *("v2", "a", "team", "tags", "list", "manifests", "blobs", "uploads", "referrers", "latest", "v1.2"),
        *("_catalog", "_oci", "ext", "discover", "token", "", ".", "..", "A", "%61", "a:b", DIGEST, UPLOAD),
    ]
)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"])


class ShortcutTests(SynchronousTestCase):
    """Found targets, and those that are left to Klein."""

    def setUp(self) -> None:
        guard = Guard(authenticator=FixedAuthenticator(), anonymous=anonymous_principal("none", ()))
        self.app = registry_app(registry_routes(endpoints_of(World())), guard=guard)
        self.shortcut: Shortcut[Endpoint, tuple[str, dict[str, str]]] = Shortcut(self.app.served, aim)

    def by_klein(self, method: str, path: str) -> tuple[str, dict[str, Any]] | None:
        """Return rule and parts as Klein finds them, None for an error."""
        try:
            rule, parts = self.app.url_map.bind("host").match(path, method=method, return_rule=True)
        except HTTPException:
            return None
        return rule.rule, dict(parts)

    @settings(derandomize=True, deadline=None, max_examples=1500)
    @given(METHODS, st.lists(SEGMENTS, max_size=8))
    def test_same_as_klein(self, method: str, segments: list[str]) -> None:
        """Whatever is found here is what Klein finds, with the same parts."""
        path = "/" + "/".join(segments)
        found = self.shortcut.find(method.encode(), path.encode())
        if found is not None:
            self.assertEqual(self.by_klein(method, path), found, (method, path))

    def test_usual_paths(self) -> None:
        """The paths that clients ask for are found, with and without a query."""
        for method, path, parts in [
            ("GET", "/v2/", {}),
            ("GET", "/v2/_catalog?n=5", {}),
            ("HEAD", "/v2/team/app/manifests/v1", {"name": "team/app", "reference": "v1"}),
            ("GET", f"/v2/app/manifests/{DIGEST}", {"name": "app", "reference": DIGEST}),
            ("GET", f"/v2/app/blobs/{DIGEST}", {"name": "app", "digest": DIGEST}),
            ("GET", "/v2/app/tags/list?n=100&last=a", {"name": "app"}),
            ("POST", "/v2/app/blobs/uploads/", {"name": "app"}),
            ("PUT", f"/v2/app/blobs/uploads/{UPLOAD}?digest={DIGEST}", {"name": "app", "upload": UPLOAD}),
        ]:
            found = self.shortcut.find(method.encode(), path.encode())
            self.assertEqual(parts, None if found is None else found[1], path)

    def test_left_to_klein(self) -> None:
        """Other methods, escapes, doubled slashes and names that may mean something else are not found."""
        for method, path in [
            ("POST", "/v2/"),
            ("OPTIONS", "/v2/app/tags/list"),
            ("GET", "/v2"),
            ("GET", "/v2//app/tags/list"),
            ("GET", "/v2/%61pp/tags/list"),
            ("GET", "/v2/Bad/tags/list"),
            ("GET", "/v2/app/blobs/uploads"),
            ("GET", "/v2/app/blobs/uploads/not-one-of-ours"),
            ("GET", "http://host/v2/"),
        ]:
            self.assertIsNone(self.shortcut.find(method.encode(), path.encode()), path)

    def test_bounded(self) -> None:
        """However many targets are asked for, few are remembered."""
        for number in range(TARGETS_LIMIT + 10):
            self.shortcut.find(b"GET", b"/v2/a%d/tags/list" % number)
        self.assertLess(len(self.shortcut._known), TARGETS_LIMIT)

    def test_sessions(self) -> None:
        """Targets of upload sessions, which nobody asks for twice, push no others out."""
        self.shortcut.find(b"POST", b"/v2/a/blobs/uploads/")
        for _ in range(2):
            self.assertIsNotNone(self.shortcut.find(b"PUT", f"/v2/a/blobs/uploads/{UPLOAD}".encode()))
        self.assertEqual([(b"POST", b"/v2/a/blobs/uploads/")], list(self.shortcut._known))


def aim(
    endpoint: Endpoint, method: str, target: bytes, parts: dict[str, str]
) -> tuple[str, dict[str, str]] | None:
    """Return where a request came out."""
    return (endpoint.rule, parts) if method in endpoint.operations else None
