"""What cases are made of: right values many times, odd ones once."""

from __future__ import annotations

from tests.registry.world import OCI_INDEX, OCI_MANIFEST

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ODD_METHODS = ("get", "TRACE", "CONNECT", "PRI", "G\x00T", "", "X" * 300, "PÜT", "GET GET")
#: admin:secret, pusher:secret, nobody:secret, a wrong password, and what is no Basic at all.
AUTHORIZATIONS = (
    *["Basic YWRtaW46c2VjcmV0"] * 150, "Basic cHVzaGVyOnNlY3JldA==", "Basic bm9ib2R5OnNlY3JldA==",
    "Basic YWRtaW46d3Jvbmc=", "Basic", "Basic !!!!", "Basic " + "QQ==" * 500, "Basic YWRtaW4=",
    "Bearer x.y.z",
    "basic\tYWRtaW46c2VjcmV0", "Basic /////w==", "", "Digest username=admin",
)  # fmt: skip
REPOSITORIES = (
    *["team/app"] * 60, "other/base", "r", "new/one", "no/where", "Bad!Name", "a" * 300, "a/manifests/b",
    "blobs/uploads", "team/../app", "team//app", "-x", "a/b/c/d/e/f", "tags/list", "_catalog", "team%2Fapp",
)  # fmt: skip
TAGS = (
    *["v1", "v2", "latest"] * 5, ".bad", "x" * 129, "a%20b", "%00", "..", "v%201", "sha256:", "é", "list",
)  # fmt: skip
NUMBERS = (
    "0", "1", "2", "25", "1000", "-1", "", "x", "+1", "1e3", " 1", "9" * 30, "9" * 4400, "0" * 50 + "7",
    "0x10",
    "\u0661",
)  # fmt: skip
RANGES = (
    *["bytes=0-3", "bytes=2-", "bytes=-4", "bytes=0-1,4-5,2-9"] * 3, "bytes=5-5000", "bytes=9-2",
    "bytes=-0", "bytes=", "lines=0-1",
    "bytes=0-0,2-3", "bytes=0-,0-,0-", "bytes=" + ",".join(f"{n}-{n}" for n in range(300)),
    "bytes=" + ",".join(["0-0"] * 2049), "bytes=99999-", "bytes=1-" + "9" * 5000, "bytes=a-b", "=",
    "bytes=--1",
)  # fmt: skip
CONTENT_RANGES = (
    "0-3", "0-18", "4-7", "0-0", "7-4", "bytes 0-3/19", "-", "x-y", "0-" + "9" * 30, "9" * 30 + "-",
    "0-18/19",
)  # fmt: skip
HOSTS = (*["registry.example:5000"] * 400, "[::1]:5000", "", "a b", "evil\x00", "x:99999999", "ü", "[", "a,b")
TYPES = (*[OCI_MANIFEST] * 5, OCI_INDEX, "application/json", "", "text/html", "x" * 2000, "a/b; charset=\x80")
LENGTHS = (
    "0",
    "1",
    "5",
    "19",
    "-1",
    "+5",
    " 5",
    "5 5",
    "5,5",
    "0x5",
    "",
    "9" * 19,
    "9" * 20,
    "\u0665",
    "1_0",
)
CODINGS = (
    "chunked", "Chunked", "chunked, chunked", "identity", "gzip", "gzip, chunked", "xchunked",
    "chunked;q=1",
    "\x0bchunked", "chunked\x00", "",
)  # fmt: skip
#: Texts that stand between two bytes.
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b"%00", b"%2f", b"%", b" ", b"\t", b":", b"\r\n\r\n", b"\r\n ",
    b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Host: x\r\n", b"?",
    b"//", b"..",
    b"HTTP/1.1", b"HTTP/1.0", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"A" * 9000, b";",
    b"9" * 5000, b"x" * 70_000, b"&" * 1200, b"\xc3\x28", b"[" * 3000,
)  # fmt: skip
