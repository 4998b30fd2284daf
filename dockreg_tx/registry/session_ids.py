"""Ids of upload sessions that tell whose they are, so that a session needs no row before it has bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import Now

_TIME_BYTES = 4
_RANDOM_BYTES = 5
_BEGINNING_BYTES = _TIME_BYTES + _RANDOM_BYTES
_PROOF_BYTES = 7
#: In this order in the last two bits of the random bytes; empty: none was announced.
_ALGORITHMS = ("", "sha256", "sha512")


class SessionIds:
    """Makes ids in the form of a UUID, and tells those that it made from others.

    They are no secret and give no right: who may push to a repository may open sessions there. The proof
    only tells a session that was opened here, by this user for this repository, from one that never was.

    Args:
        instance_id: of the registry; ids of another one prove nothing here.
        random_bytes: gives so many of them.
        now: the time of day, which an id keeps.
        expire_after_seconds: an id is as good for so long; whatever it stood for may have been dropped then.
        is_steady: tells whether a time of day can be believed.
    """

    def __init__(
        self,
        *,
        instance_id: str,
        random_bytes: Callable[[int], bytes],
        now: Now,
        expire_after_seconds: float,
        is_steady: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._key = instance_id.encode()[:64]
        self._random_bytes = random_bytes
        self._now = now
        self._expire_after_seconds = expire_after_seconds
        self._is_steady = is_steady

    def new(self, repository: RepositoryName, owner: str, algorithm: str) -> str:
        """Return a fresh id.

        Args:
            repository: where the blob will be linked.
            owner: name of the user, empty for anonymous.
            algorithm: that the client announced, one of those that content can be stored under, or empty.
        """
        second = int(self._now()) & 0xFFFF_FFFF
        beginning = bytearray(second.to_bytes(_TIME_BYTES) + self._random_bytes(_RANDOM_BYTES))
        beginning[-1] = beginning[-1] & 0xFC | _ALGORITHMS.index(algorithm)
        text = (beginning + self._proof(beginning, repository, owner)).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    async def algorithm(self, upload_id: str, repository: RepositoryName, owner: str) -> str | None:
        """Return the algorithm that an id was made for.

        Returns:
            None when it is none of this repository and owner, or too old.
        """
        try:
            content = bytes.fromhex(upload_id.replace("-", ""))
        except ValueError:
            return None
        beginning, proof = content[:_BEGINNING_BYTES], content[_BEGINNING_BYTES:]
        if proof != self._proof(beginning, repository, owner) or beginning[-1] & 3 == len(_ALGORITHMS):
            return None
        if await self._has_expired(int.from_bytes(beginning[:_TIME_BYTES])):
            return None
        return _ALGORITHMS[beginning[-1] & 3]

    async def _has_expired(self, made_at: int) -> bool:
        now = self._now()
        return now - made_at >= self._expire_after_seconds and await self._is_steady(now)

    def _proof(self, beginning: bytes | bytearray, repository: RepositoryName, owner: str) -> bytes:
        # No name of a repository has a line end.
        content = b"%b%b\n%b" % (bytes(beginning), repository.text.encode(), owner.encode())
        return blake2b(content, digest_size=_PROOF_BYTES, key=self._key).digest()
