"""Tests of ``dockreg_tx.access.passwords``, at bcrypt's lowest cost where it can be."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.passwords import (
    DEFAULT_ROUNDS,
    DUMMY_HASH,
    PasswordInvalid,
    generate_password,
    hash_password,
    is_password_hash,
    verify_password,
)

#: Of "secret", as ``htpasswd -B -C 4`` writes it.
HTPASSWD_HASH = hash_password("secret", 4).replace("$2b$", "$2y$")
INVALID = ["", "a" * 73, "\u20ac" * 24 + "a", "a" * 10_000, "a\0b", "\0", "a\ud800"]


class HashTests(SynchronousTestCase):
    """``hash_password`` and ``verify_password``."""

    def test_round_trip(self) -> None:
        """The password of a hash is right, every other is wrong."""
        for password in ("secret", "a" * 72, "\u20ac" * 24, " ", "p\u00e4ss:w\u00f6rd"):
            stored = hash_password(password, 4)
            self.assertTrue(verify_password(password, stored))
            for other in (password + "x", password[:-1], password.swapcase() + "!", ""):
                self.assertFalse(verify_password(other, stored))

    def test_salted(self) -> None:
        """Two hashes of one password differ."""
        self.assertNotEqual(hash_password("secret", 4), hash_password("secret", 4))

    def test_default_cost(self) -> None:
        """Hashes cost 12 unless told otherwise, and so does the dummy, which nobody's password opens."""
        self.assertEqual(12, DEFAULT_ROUNDS)
        self.assertTrue(hash_password("secret").startswith("$2b$12$"))
        self.assertTrue(DUMMY_HASH.startswith("$2b$12$"))
        self.assertTrue(is_password_hash(DUMMY_HASH))
        self.assertFalse(verify_password("secret", DUMMY_HASH))

    def test_invalid(self) -> None:
        """What bcrypt cannot read whole is refused when set, without showing it, and wrong later."""
        stored = hash_password("a" * 72, 4)
        for password in INVALID:
            message = str(self.assertRaises(PasswordInvalid, hash_password, password, 4))
            self.assertNotIn(password or "\0", message)
            self.assertFalse(verify_password(password, stored))

    def test_cost_bounds(self) -> None:
        """A cost outside 4 to 14 is refused."""
        for rounds in (3, 15, 31):
            self.assertRaises(ValueError, hash_password, "secret", rounds)

    def test_htpasswd(self) -> None:
        """Hashes with the prefixes of other programs are verified as they are."""
        for prefix in ("$2y$", "$2a$", "$2b$"):
            self.assertTrue(verify_password("secret", HTPASSWD_HASH.replace("$2y$", prefix)))
        self.assertFalse(verify_password("Secret", HTPASSWD_HASH))

    def test_corrupt_hashes(self) -> None:
        """A hash that is damaged, of another kind, or too costly opens to nothing, and raises nothing."""
        good = HTPASSWD_HASH
        for stored in [
            "", "secret", "*", "!", good[:-1], good + "a", good + "\n", good + "\0", "$2x$" + good[4:],
            good[1:], "$2y$03" + good[6:], "$2y$15" + good[6:], "$2y$31" + good[6:], "$2y$99" + good[6:],
            "$2y$4" + good[6:],
            "$2y$\u0664\u0664" + good[6:], good[:-1] + "\u00e9", good[:10] + "=" + good[11:], "$apr1$x$y",
            "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$2y$04$" + "\ud800" * 53,
        ]:  # fmt: skip
            with self.subTest(stored=stored):
                self.assertFalse(is_password_hash(stored))
                self.assertFalse(verify_password("secret", stored))
        self.assertTrue(is_password_hash(good))


class GenerateTests(SynchronousTestCase):
    """``generate_password``."""

    def test_from_given_bytes(self) -> None:
        """A password is 24 letters and digits of the bytes that it is given, and can be set."""
        self.assertEqual("a" * 24, generate_password(bytes))
        password = generate_password(lambda count: bytes(range(200, 200 + count)))
        self.assertRegex(password, r"\A[a-z2-7]{24}\Z")
        self.assertTrue(verify_password(password, hash_password(password, 4)))
