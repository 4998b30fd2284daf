"""Bodies of a gibibyte pass through in little memory, on no other disk, and without stopping anyone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence

from tests.integration.case import PUSHER, RegistryTestCase
from tests.integration.pulse import Latency, Pulse
from tests.integration.sockets import MIB, Connection, basic, blocks, digest_of_blocks

GIB = 1024 * MIB
#: Eight uploads at once are of this size each; the long campaigns take a gibibyte.
PARALLEL_BYTES = int(os.environ.get("TEST_PARALLEL_MIB", "128")) * MIB
#: The promise is 50 ms. Sender, hasher and this measurement share the cores of one machine, so what is
#: judged is the 99th percentile, and the lateness of the pulse itself is allowed for.
LATENCY_MS = 50.0
#: All that the tests push stays until the class is done.
DISK_BYTES = 5 * GIB + 8 * PARALLEL_BYTES


def no_room() -> str | None:
    """Return why the tests cannot run here, or nothing."""
    directory = tempfile.gettempdir()
    if shutil.disk_usage(directory).free > DISK_BYTES + 2 * GIB:
        return None
    return f"{directory} has less than {(DISK_BYTES + 2 * GIB) // GIB} GiB of free space"


class StreamingTests(RegistryTestCase):
    timeout = 300
    skip = no_room()

    def setUp(self) -> None:
        """Begin with the memory of a server that has seen one upload."""
        super().setUp()
        with self.connect() as client:
            client.request("POST", f"/v2/warm/blobs/uploads/?digest={digest_of_blocks(MIB, 99)}", _small())
        self.server.forget_peak_memory()
        self.before = self.server.memory_bytes()

    def location(self, repository: str = "big") -> str:
        """Open an upload session and return its address."""
        return self.connect().request("POST", f"/v2/{repository}/blobs/uploads/").headers["location"]

    def grown(self) -> int:
        """Return by how many MiB the server's largest size exceeds the one before the test."""
        return (self.server.peak_memory_bytes() - self.before) // MIB

    def assert_calm(self, latency: Latency) -> None:
        """Fail when other clients had to wait."""
        # Where others use the cores too, the server's turns come as late as the pulse's: one for a request,
        # one for its answer, and the pulse's own to take it.
        self.assertLess(latency.p99_ms, LATENCY_MS + 3 * latency.late_ms, latency)

    def assert_only_root_written(self) -> None:
        """Fail when the server has a file open elsewhere, or left one in its TMPDIR."""
        self.assertEqual([], self.server.files_outside_root())
        self.assertEqual([], os.listdir(self.directory / "tmp"))

    def upload(self, method: str, size: int, seed: int, *, chunked: bool) -> None:
        """Send one blob and check its digest, its memory and everybody else's waiting time."""
        digest = digest_of_blocks(size, seed)
        location = self.location()
        path = f"{location}?digest={digest}" if method == "PUT" else location
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
        pulse = Pulse(self.server.port)
        try:
            client = self.connect()
            client.send_head(method, path, framing)
            halfway = threading.Thread(
                target=client.send_blocks, args=(size, seed), kwargs={"chunked": chunked}
            )
            halfway.start()
            while halfway.is_alive():
                self.assert_only_root_written()
                halfway.join(0.2)
            answer = client.answer()
            if method == "PATCH":
                self.assertEqual((202, f"0-{size - 1}"), (answer.status, answer.headers["range"]))
                answer = client.request("PUT", f"{location}?digest={digest}")
        finally:
            latency = pulse.stop()
        self.assertEqual((201, digest), (answer.status, answer.headers["docker-content-digest"]))
        self.assertLessEqual(self.grown(), 64)
        self.assert_calm(latency)
        self.assertEqual(digest, self.download(digest, size))
        self.connect().request("DELETE", f"/v2/big/blobs/{digest}")

    def download(self, digest: str, size: int) -> str:
        """Return the digest of what a GET brings."""
        client = self.connect()
        client.send_head("GET", f"/v2/big/blobs/{digest}")
        head = client.head()
        self.assertEqual((200, str(size)), (head.status, head.headers["content-length"]))
        return client.digest_of_body(size)

    def test_patch_with_length(self) -> None:
        """1 GiB by PATCH with Content-Length."""
        self.upload("PATCH", GIB, 1, chunked=False)

    def test_patch_chunked(self) -> None:
        """1 GiB by PATCH in chunked encoding, as the Docker daemon sends it."""
        self.upload("PATCH", GIB, 2, chunked=True)

    def test_put(self) -> None:
        """1 GiB by PUT."""
        self.upload("PUT", GIB, 3, chunked=False)

    def test_curl(self) -> None:
        """256 MiB by ``curl -T -``."""
        size = 256 * MIB
        digest = digest_of_blocks(size, 4)
        url = f"{self.server.base_url}{self.location()}?digest={digest}"
        command = [
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-u",
            ":".join(PUSHER),
            "-T",
            "-",
            url,
        ]
        curl = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert curl.stdin is not None
        for block in blocks(size, 4):
            curl.stdin.write(block)
        output, _ = curl.communicate(timeout=60)
        self.assertEqual(b"201", output)
        self.assertLessEqual(self.grown(), 64)

    if shutil.which("curl") is None:
        test_curl.skip = "curl is not installed"  # type: ignore[attr-defined] # read by trial

    def test_eight_at_once(self) -> None:
        """Eight uploads at once share 160 MiB, and stop nobody."""
        digests = [digest_of_blocks(PARALLEL_BYTES, 10 + number) for number in range(8)]
        answers: dict[int, int] = {}

        def push(number: int) -> None:
            with Connection(self.server.port, basic(*PUSHER), timeout_seconds=120) as client:
                location = client.request("POST", "/v2/big/blobs/uploads/").headers["location"]
                client.send_head("PATCH", location, {"Transfer-Encoding": "chunked"})
                client.send_blocks(PARALLEL_BYTES, 10 + number, chunked=True)
                if client.answer().status == 202:
                    done = client.request("PUT", f"{location}?digest={digests[number]}")
                    answers[number] = done.status

        pulse = Pulse(self.server.port)
        _together([lambda number=number: push(number) for number in range(8)])  # type: ignore[misc] # binds
        latency = pulse.stop()
        self.assertEqual([201] * 8, [answers.get(number) for number in range(8)])
        self.assertLessEqual(self.grown(), 160)
        self.assert_calm(latency)
        self.assert_only_root_written()

    def test_reader_that_never_reads(self) -> None:
        """A client that asks for 1 GiB and never reads costs at most 16 MiB, and stops nobody."""
        digest = digest_of_blocks(GIB, 5)
        client = self.connect()
        client.send_head("PUT", f"{self.location()}?digest={digest}", {"Content-Length": str(GIB)})
        client.send_blocks(GIB, 5)
        self.assertEqual(201, client.answer().status)
        self.server.forget_peak_memory()
        self.before = self.server.memory_bytes()
        pulse = Pulse(self.server.port)
        idle = [Connection(self.server.port, basic(*PUSHER), receive_buffer_bytes=4096) for _ in range(4)]
        for each in idle:
            each.send_head("GET", f"/v2/big/blobs/{digest}")
            self.assertEqual(200, each.head().status)
        self.assertEqual(digest, self.download(digest, GIB))
        latency = pulse.stop()
        self.assertLessEqual(self.grown(), 16)
        self.assert_calm(latency)
        for each in idle:
            each.close()
        self.assertEqual(200, self.connect().request("GET", "/v2/").status)


def _small() -> bytes:
    return next(blocks(MIB, 99))


def _together(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
