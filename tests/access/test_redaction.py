"""Tests of ``dockreg_tx.access.redaction``."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.redaction import HIDDEN, redacted, redacted_address


class RedactionTests(SynchronousTestCase):
    """What is shown, and what is not."""

    def test_addresses(self) -> None:
        """Values of unknown parameters are hidden, those of a registry's own are shown."""
        for address, expected in [
            ("/v2/", "/v2/"),
            ("/v2/?", "/v2/?"),
            ("/v2/a/tags/list?n=5&last=x", "/v2/a/tags/list?n=5&last=x"),
            ("/token?scope=repository:a:pull&account=al", "/token?scope=repository:a:pull&account=al"),
            ("/token?password=canary&n=1", f"/token?password={HIDDEN}&n=1"),
            ("/v2/?%70assword=canary", f"/v2/?%70assword={HIDDEN}"),
            ("/v2/?canary&n=1&&q", f"/v2/?{HIDDEN}&n=1&&q"),
            ("/v2/?a=", "/v2/?a="),
            (
                "https://user:canary@r.example/v2/?token=canary",
                f"https://{HIDDEN}@r.example/v2/?token={HIDDEN}",
            ),
            ("//user:canary@r.example/", f"//{HIDDEN}@r.example/"),
            ("https://r.example/a@b", "https://r.example/a@b"),
        ]:
            self.assertEqual(expected, redacted_address(address))

    def test_tokens(self) -> None:
        """Our own secrets are known by their form, wherever they stand, cut ones too."""
        for secret in (
            "dkr_abcdefghijklmnop-_",
            "dkl_abcdefghijklmnop",
            "eyJhbGciOiJF.eyJzdWIi.sig",
            "eyJhbGciOiJFUzI",
        ):
            for text in ("{}", "/v2/{}/x", "a {}", "{}?"):
                self.assertEqual(text.format(HIDDEN), redacted(text.format(secret)))
        self.assertEqual("alice dkr_ eyJ", redacted("alice dkr_ eyJ"))

    @settings(derandomize=True, max_examples=300, deadline=None)
    @given(st.text(max_size=200))
    def test_anything(self, text: str) -> None:
        """Nothing breaks it, and what is hidden stays hidden."""
        once = redacted_address(text)
        self.assertEqual(once, redacted_address(once))
