"""Ids of upload sessions that tell whose they are, so that a session needs no row before it has bytes."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from dockreg_tx.oci.names import RepositoryName

_NONCE_BYTES = 9
_PROOF_BYTES = 7
#: In this order in the last two bits of the nonce; empty: none was announced.
_ALGORITHMS = ("", "sha256", "sha512")


class SessionIds:
    """Makes ids in the form of a UUID, and tells those that it made from others.

    They are no secret and give no right: who may push to a repository may open sessions there. The proof
    only tells a session that was opened here, by this user for this repository, from one that never was.

    Args:
        instance_id: of the registry; ids of another one prove nothing here.
        random_bytes: gives so many of them.
    """

    def __init__(self, *, instance_id: str, random_bytes: Callable[[int], bytes]) -> None:
        self._key = instance_id.encode()[:64]
        self._random_bytes = random_bytes

    def new(self, repository: RepositoryName, owner: str, algorithm: str) -> str:
        """Return a fresh id.

        Args:
            repository: where the blob will be linked.
            owner: name of the user, empty for anonymous.
            algorithm: that the client announced, one of those that content can be stored under, or empty.
        """
        nonce = bytearray(self._random_bytes(_NONCE_BYTES))
        nonce[-1] = nonce[-1] & 0xFC | _ALGORITHMS.index(algorithm)
        text = (nonce + self._proof(nonce, repository, owner)).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def algorithm(self, upload_id: str, repository: RepositoryName, owner: str) -> str | None:
        """Return the algorithm that an id was made for; None: it is none of this repository and owner."""
        try:
            content = bytes.fromhex(upload_id.replace("-", ""))
        except ValueError:
            return None
        nonce, proof = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
        if proof != self._proof(nonce, repository, owner) or nonce[-1] & 3 == len(_ALGORITHMS):
            return None
        return _ALGORITHMS[nonce[-1] & 3]

    def _proof(self, nonce: bytes | bytearray, repository: RepositoryName, owner: str) -> bytes:
        # No name of a repository has a line end.
        content = b"%b%b\n%b" % (bytes(nonce), repository.text.encode(), owner.encode())
        return blake2b(content, digest_size=_PROOF_BYTES, key=self._key).digest()
