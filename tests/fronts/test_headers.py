"""What the fronts tell dockreg of the client, and what they keep from it."""

from __future__ import annotations

import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fronts.front import CADDY, HAPROXY, NGINX, Front, Kind, missing

#: What a client might claim.
CLAIMS = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "ftp",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=ftp",
}


class _Mirror(BaseHTTPRequestHandler):
    """Answers with the headers that it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        """Log nothing."""


class _Upstream(ThreadingHTTPServer):
    """Takes it in silence when a health check closes early."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class HeaderTests(SynchronousTestCase):
    """One test for each proxy."""

    def headers(self, kind: Kind) -> dict[str, str]:
        """Return the headers that arrive behind a proxy."""
        upstream = _Upstream(("127.0.0.1", 0), _Mirror)
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        self.addCleanup(upstream.server_close)
        self.addCleanup(upstream.shutdown)
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-front-", ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        front = Front(kind, upstream.server_address[1], Path(temporary.name))
        self.addCleanup(front.stop)
        front.start()
        with front.connect() as client:
            headers: dict[str, str] = json.loads(client.request("GET", "/", headers=CLAIMS).body)
        return headers

    def check(self, kind: Kind) -> None:
        """Check them."""
        headers = self.headers(kind)
        self.assertEqual("127.0.0.1", headers["host"])
        self.assertEqual("127.0.0.1", headers["x-forwarded-for"])
        self.assertEqual("https", headers["x-forwarded-proto"])
        self.assertEqual("127.0.0.1", headers["x-forwarded-host"])
        self.assertNotIn("forwarded", headers)

    def test_nginx(self) -> None:
        """The nginx of etc tells who asked, and for what; claims of the client do not get through."""
        self.check(NGINX)

    def test_caddy(self) -> None:
        """So does Caddy."""
        self.check(CADDY)

    def test_haproxy(self) -> None:
        """So does HAProxy."""
        self.check(HAPROXY)

    for _test, _kind in ((test_nginx, NGINX), (test_caddy, CADDY), (test_haproxy, HAPROXY)):
        if missing(_kind):
            _test.skip = missing(_kind)  # type: ignore[attr-defined]  # read by trial
