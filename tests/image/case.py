"""The ground of the image's tests: one engine and one image for all of them, and clients."""

from __future__ import annotations

import atexit
import functools
import json
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.image.engine import Engine, reason_to_skip
from tests.integration.images import Image, write_oci_layout

PATIENCE_SECONDS = 30.0


@functools.cache
def engine() -> Engine | Exception:
    """Return the engine of all tests, with the image, or why there is none; it ends with the process."""
    scratch = tempfile.TemporaryDirectory(prefix="dockreg-image-", ignore_cleanup_errors=True)
    made = Engine(Path(scratch.name))

    def end() -> None:
        made.close()
        scratch.cleanup()

    atexit.register(end)
    try:
        made.build()
    except (AssertionError, SkipTest) as error:
        return error
    return made


class ImageTestCase(SynchronousTestCase):
    """Tests that start containers."""

    skip = reason_to_skip()

    def setUp(self) -> None:
        """Make the image, if this is the first test."""
        super().setUp()
        made = engine()
        if isinstance(made, Exception):
            raise made
        self.engine = made
        self.home = Path(tempfile.mkdtemp(dir=self.engine.directory))

    def do(self, *command: str) -> str:
        """Run a command that must succeed."""
        return self.engine.do(*command)

    def curl(self, *options: str) -> str:
        """Return what curl prints."""
        return self.do("curl", "-sS", *options)

    def status(self, *options: str) -> str:
        """Return the status of an answer, 000 without one."""
        command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options)
        return self.engine.run(*command).stdout

    def wait_for(self, url: str, *options: str) -> None:
        """Return when an address answers with 200."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.status(*options, url) != "200":
            if time.monotonic() > end:
                told = [self.engine.run("podman", "logs", each).stderr for each in self.engine.containers()]
                self.fail(f"{url} does not answer\n" + "\n".join(told)[-3000:])
            time.sleep(0.1)  # a container tells nobody that it is ready

    def round_trip(self, content: Image, name: str, credentials: str, *flags: str) -> None:
        """Push an image with skopeo, and pull it again.

        Args:
            content: the image.
            name: where to, with host and tag.
            credentials: user, colon, password.
            flags: of both connections, without ``src-`` and ``dest-``.
        """
        layout = self.home / "there"
        write_oci_layout(layout, content, "v1")
        for way, source, target in (
            ("dest", f"oci:{layout}:v1", f"docker://{name}"),
            ("src", f"docker://{name}", f"oci:{self.home}/back:v1"),
        ):
            options = [f"--{way}-{flag}" for flag in (f"creds={credentials}", *flags)]
            self.do("skopeo", "copy", "--preserve-digests", *options, source, target)
        back = json.loads((self.home / "back" / "index.json").read_text())["manifests"][0]
        self.assertEqual(content.manifest.digest, back["digest"])
        for blob in content.blobs:
            stored = self.home / "back" / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
            self.assertEqual(blob.content, stored.read_bytes())
