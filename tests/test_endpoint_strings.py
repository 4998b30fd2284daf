"""Endpoint strings: what is read out of them, and what they become."""

from __future__ import annotations

from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.endpoint_strings import ssl_arguments, with_backlog, without_tls
from dockreg_tx.listeners import WAITING_CONNECTIONS, StartRefused, bind, check_listeners
from dockreg_tx.settings import load_settings
from dockreg_tx.workers.supervisor import Nobody


class SslTests(SynchronousTestCase):
    """What ``ssl:`` endpoints say of their certificate and their socket."""

    def test_arguments(self) -> None:
        """Arguments by name and by position are the same; a certificate may be in the file of its key."""
        for text in (
            "ssl:443:k.pem:c.pem",
            "ssl:443:privateKey=k.pem:certKey=c.pem",
            "ssl:443:k.pem:certKey=c.pem",
        ):
            found = ssl_arguments(text)
            self.assertEqual(
                ("443", "k.pem", "c.pem"), (found["port"], found["privateKey"], found["certKey"]), text
            )
        self.assertEqual("a:b.pem", ssl_arguments(r"ssl:443:privateKey=a\:b.pem")["certKey"])
        self.assertEqual("server.pem", ssl_arguments("ssl:443")["certKey"])

    def test_socket(self) -> None:
        """Port, interface and backlog stay when TLS is taken away; other kinds stay as they are."""
        text = r"ssl:443:k.pem:interface=127.0.0.1:backlog=7:extraCertChain=chain.pem"
        self.assertEqual("tcp:port=443:interface=127.0.0.1:backlog=7", without_tls(text))
        self.assertEqual("tcp:port=443", without_tls("ssl:port=443"))
        self.assertEqual("tcp6:port=443", without_tls("tls:/etc/pem"))
        self.assertEqual(
            "tcp:port=8443:interface=127.0.0.1", without_tls("tls:/etc/pem:8443:interface=127.0.0.1")
        )
        self.assertEqual(r"tcp6:port=443:interface=\:\:1", without_tls(r"tls:/etc/pem:interface=\:\:1"))
        self.assertEqual("unix:/run/x", without_tls("unix:/run/x"))


class BacklogTests(SynchronousTestCase):
    """How many connections wait to be accepted."""

    def test_strings(self) -> None:
        """Only sockets of ours whose endpoint does not say it itself are told."""
        for text, expected in (
            ("tcp:5000", "tcp:5000:backlog=9"),
            ("tcp6:port=5000:interface=\\:\\:", "tcp6:port=5000:interface=\\:\\::backlog=9"),
            ("tcp:5000:127.0.0.1", "tcp:5000:127.0.0.1:backlog=9"),
            ("tcp:5000:127.0.0.1:3", "tcp:5000:127.0.0.1:3"),
            ("tcp:5000:backlog=3", "tcp:5000:backlog=3"),
            ("unix:/run/x", "unix:/run/x:backlog=9"),
        ):
            self.assertEqual(expected, with_backlog(text, 9))
            serverFromString(MemoryReactor(), with_backlog(text, 9))

    def test_listeners(self) -> None:
        """A crowd that comes at once may wait, where Twisted would let fifty."""
        reactor = MemoryReactor()
        settings = load_settings(config_path=None, environ={}, options={"listen": ["tcp:5000"]})
        bind(reactor, settings, Nobody())
        self.assertEqual(WAITING_CONNECTIONS, reactor.tcpServers[0][2])


class MalformedTests(SynchronousTestCase):
    """What is no endpoint is said in an operator's words, with an example."""

    def test_words(self) -> None:
        """Neither Python's functions nor its literals are in the line."""
        for text, reason in (
            ("5000", "Unknown endpoint type: '5000'"),
            ("tcp:", "'' is no number"),
            ("tcp:http", "'http' is no number"),
            ("tcp", "its kind takes other arguments"),
            ("tcp:5000:color=red", "its kind takes other arguments"),
        ):
            settings = load_settings(config_path=None, environ={}, options={"listen": [text]})
            with self.assertRaises(StartRefused) as caught:
                check_listeners(MemoryReactor(), settings)
            example = "write for example tcp:5000:interface=127.0.0.1"
            self.assertEqual(f"cannot listen on {text!r}: {reason}; {example}", str(caught.exception))
