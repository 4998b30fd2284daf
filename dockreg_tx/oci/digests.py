"""Content digests (image-spec, "Descriptors: digests") and the references built from them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from dockreg_tx.oci.errors import DigestInvalid
from dockreg_tx.oci.names import Tag

_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
#: Algorithms we store, each with the number of its hexadecimal digits.
ALGORITHMS = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[a-f0-9]+")
#: Found faster than by ``hashlib.new``.
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
#: Longer texts are refused unread; the longest digest we know has 135 characters.
_LIMIT_CHARACTERS = 512


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A well-formed digest; ``supported`` tells whether content can be stored under it."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that ``text`` spells.

        Raises:
            DigestInvalid: the text breaks the grammar, or a known algorithm has a wrong length or alphabet.
        """
        match = _GRAMMAR.fullmatch(text) if len(text) <= _LIMIT_CHARACTERS else None
        if match is None:
            raise DigestInvalid(
                "malformed digest: expected sha256:<64 hexadecimal digits>", {"digest": text[:300]}
            )
        algorithm, encoded = match.groups()
        digits = ALGORITHMS.get(algorithm)
        if digits is not None and (len(encoded) != digits or _HEX.fullmatch(encoded) is None):
            raise DigestInvalid(
                f"malformed digest: {algorithm} has {digits} lower-case hexadecimal digits",
                {"digest": text[:300]},
            )
        return cls(algorithm, encoded)

    @classmethod
    def parse_supported(cls, text: str) -> Self:
        """Return the digest that ``text`` spells, of an algorithm that content can be stored under.

        Raises:
            DigestInvalid: as ``parse``, and for an algorithm other than sha256 and sha512.
        """
        digest = cls.parse(text)
        if not digest.supported:
            raise DigestInvalid("unsupported digest algorithm: use sha256 or sha512", {"digest": text})
        return digest

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of ``content`` under a supported ``algorithm``."""
        return cls(algorithm, _HASHES[algorithm](content).hexdigest())

    @property
    def supported(self) -> bool:
        """Whether content can be stored and verified under this digest's algorithm."""
        return self.algorithm in ALGORITHMS

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


#: What a manifest is asked for by.
Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Return the digest or tag that ``text`` spells: with a ``:`` it is a digest, otherwise a tag.

    Raises:
        DigestInvalid: a malformed digest.
        TagInvalid: a malformed tag.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)
