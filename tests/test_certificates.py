"""Certificates: what is refused, and in which words."""

from __future__ import annotations

import os
from pathlib import Path

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.certificates import CertificateUnusable, ServerCertificate, source_of_endpoint
from tests.integration.test_listeners import write_certificate


class RefusalTests(SynchronousTestCase):
    """What cannot be shown is one line that names it."""

    def setUp(self) -> None:
        """Make a certificate."""
        directory = Path(self.mktemp())
        os.mkdir(directory)
        self.certificate, self.key = write_certificate(directory)

    def refused(self, more: str = "") -> str:
        """Return the line."""
        text = f"ssl:443:{self.key}:{self.certificate}{more}"
        with self.assertRaises(CertificateUnusable) as caught:
            ServerCertificate(source_of_endpoint(text))
        (line,) = str(caught.exception).splitlines()
        return line

    def test_old_methods(self) -> None:
        """An endpoint string brings TLS 1.0 and 1.1 not back; what both sides agree on is newer."""
        for method in ("TLSv1_METHOD", "TLSv1_1_METHOD", "SSLv3_METHOD", "OP_ALL"):
            self.assertIn(f"sslmethod {method} is not spoken", self.refused(f":sslmethod={method}"))
        for method in ("", ":sslmethod=SSLv23_METHOD", ":sslmethod=TLS_METHOD"):
            source = source_of_endpoint(f"ssl:443:{self.key}:{self.certificate}{method}")
            context = ServerCertificate(source).getContext()
            for refused in (SSL.OP_NO_TLSv1, SSL.OP_NO_TLSv1_1):
                self.assertTrue(context.set_options(0) & refused, method)

    def test_no_certificate(self) -> None:
        """A file without a certificate is named as that."""
        self.certificate.write_text("what somebody wrote\n")
        self.assertIn(f"{self.certificate} holds no PEM certificate", self.refused())

    def test_no_key(self) -> None:
        """So is one without a key; of a broken one OpenSSL's reasons are words, not tuples."""
        whole = self.key.read_text()
        self.key.write_text("what somebody wrote\n")
        self.assertIn(f"{self.key} holds no PEM key", self.refused())
        self.key.write_text(whole[: len(whole) // 2] + "\n-----END PRIVATE KEY-----\n")
        line = self.refused()
        self.assertIn("are no PEM certificate with its key (", line)
        self.assertNotIn("[(", line)
