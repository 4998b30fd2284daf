"""Every refusal the registry can give: one class for each cause, with its OCI code, status and text.

Nothing here knows of HTTP beyond the number of a status; ``web/errors.py`` writes the JSON.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping, Sequence
from typing import ClassVar


class ErrorCode(enum.StrEnum):
    """The codes of the distribution spec, "Error Codes", and the few that others use beside them."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    # Not in the spec; clients show them as plain text.
    TAG_INVALID = "TAG_INVALID"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"


Detail = Mapping[str, object] | Sequence[object] | str | None


class RegistryError(Exception):
    """A refusal with a cause; never raised itself.

    ``message`` tells the reader what to do next and never holds a secret; ``detail`` is any JSON value.
    """

    code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN
    status: ClassVar[int] = 500

    def __init__(self, message: str, detail: Detail = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def entries(self) -> list[dict[str, object]]:
        """Return the entries of the ``errors`` array of the OCI error body, the most important first."""
        entry: dict[str, object] = {"code": self.code.value, "message": self.message}
        if self.detail is not None:
            entry["detail"] = self.detail
        return [entry]


class NameInvalid(RegistryError):
    """The repository name breaks the grammar of the spec."""

    code = ErrorCode.NAME_INVALID
    status = 400

    def __init__(self, name: str) -> None:
        super().__init__(
            "invalid repository name: lower-case letters and digits, joined by one '.', one or two '_' "
            "or dashes, in components separated by '/', at most 255 characters",
            {"name": name[:300]},
        )


class NameUnknown(RegistryError):
    """Nothing was ever stored under this repository name."""

    code = ErrorCode.NAME_UNKNOWN
    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"repository {name} is not known to this registry", {"name": name})


class TagInvalid(RegistryError):
    """A tag to be written breaks the grammar of the spec."""

    code = ErrorCode.TAG_INVALID
    status = 400

    def __init__(self, tag: str) -> None:
        super().__init__(
            "invalid tag: a letter, digit or '_', then at most 127 letters, digits, '.', '_' or '-'",
            {"tag": tag[:300]},
        )


class TagsTooMany(RegistryError):
    """A push names more tags than one request may set."""

    code = ErrorCode.UNSUPPORTED
    status = 414

    def __init__(self, limit: int) -> None:
        super().__init__(f"one push sets at most {limit} tags: send the rest in another", {"limit": limit})


class DigestInvalid(RegistryError):
    """A digest is missing, malformed, of an unsupported algorithm, or does not match the content."""

    code = ErrorCode.DIGEST_INVALID
    status = 400


class DigestMismatch(DigestInvalid):
    """The content hashes to another digest than the one it was sent under."""

    def __init__(self, expected: str, computed: str) -> None:
        super().__init__(
            f"the content is {computed}, not {expected}: send it again",
            {"digest": expected, "computed": computed},
        )


class BlobUnknown(RegistryError):
    """The blob is not linked to this repository."""

    code = ErrorCode.BLOB_UNKNOWN
    status = 404

    def __init__(self, digest: str) -> None:
        super().__init__("blob unknown to this repository", {"digest": digest})


class BlobUploadUnknown(RegistryError):
    """The upload session is unknown, finished, cancelled, expired, or belongs to someone else."""

    code = ErrorCode.BLOB_UPLOAD_UNKNOWN
    status = 404

    def __init__(self, upload_id: str) -> None:
        super().__init__("upload session unknown: start a new one with POST", {"uuid": upload_id[:128]})


class BlobUploadInvalid(RegistryError):
    """The bytes of an upload were damaged on their way, for example cut short."""

    code = ErrorCode.BLOB_UPLOAD_INVALID
    status = 400


class RangeOutOfOrder(RegistryError):
    """A chunk does not begin at the session's offset, or another request is writing to the session.

    The session survives; the answer carries its Location and Range.
    """

    code = ErrorCode.BLOB_UPLOAD_INVALID
    status = 416

    def __init__(self, message: str, offset_bytes: int) -> None:
        super().__init__(message, {"offset": offset_bytes})
        self.offset_bytes = offset_bytes


class RangeNotSatisfiable(RegistryError):
    """A Range asks for bytes that the blob does not have."""

    code = ErrorCode.UNSUPPORTED
    status = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__("the requested range lies outside the blob", {"size": size_bytes})
        self.size_bytes = size_bytes


class SizeInvalid(RegistryError):
    """The declared size and the bytes received differ."""

    code = ErrorCode.SIZE_INVALID
    status = 400


class BodyTooLarge(RegistryError):
    """The body is longer than this endpoint takes."""

    code = ErrorCode.SIZE_INVALID
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is larger than the limit of {limit_bytes} bytes", {"limit": limit_bytes})


class ManifestInvalid(RegistryError):
    """The manifest is not valid JSON, breaks its schema, or has a type that is not taken."""

    code = ErrorCode.MANIFEST_INVALID
    status = 400


class ManifestTooLarge(ManifestInvalid):
    """The manifest is longer than the limit."""

    status = 413

    def __init__(self, limit_bytes: int) -> None:
        message = f"the manifest is larger than the limit of {limit_bytes} bytes"
        super().__init__(message, {"limit": limit_bytes})


class ManifestUnknown(RegistryError):
    """No manifest with this tag or digest in a known repository."""

    code = ErrorCode.MANIFEST_UNKNOWN
    status = 404

    def __init__(self, name: str, reference: str) -> None:
        super().__init__(
            f"manifest {reference[:300]} unknown to {name}", {"name": name, "reference": reference[:300]}
        )


class ManifestBlobUnknown(RegistryError):
    """A manifest names content that its repository does not hold."""

    code = ErrorCode.MANIFEST_BLOB_UNKNOWN
    status = 400

    def __init__(self, digests: Sequence[str]) -> None:
        super().__init__("push this content to the repository before the manifest")
        self.digests = tuple(digests)

    def entries(self) -> list[dict[str, object]]:
        """Return one entry for each missing digest."""
        return [
            {"code": self.code.value, "message": self.message, "detail": {"digest": digest}}
            for digest in self.digests
        ]


class Unauthorized(RegistryError):
    """Credentials are missing or wrong; the answer carries a challenge.

    ``reason`` is RFC 6750's word for what is wrong with a token: ``invalid_token`` or ``insufficient_scope``.
    """

    code = ErrorCode.UNAUTHORIZED
    status = 401

    def __init__(self, message: str, detail: Detail = None, *, reason: str = "") -> None:
        super().__init__(message, detail)
        self.reason = reason


class Denied(RegistryError):
    """The caller is known, and may not do this."""

    code = ErrorCode.DENIED
    status = 403


class PreconditionFailed(RegistryError):
    """A tag is not where the request's If-Match or If-None-Match wants it (RFC 9110, 13)."""

    code = ErrorCode.DENIED
    status = 412

    def __init__(self, tag: str, target: str | None) -> None:
        super().__init__(
            f"tag {tag} is not what the request's condition says: read it again, then decide",
            {"tag": tag, "digest": target},
        )


class Unsupported(RegistryError):
    """The operation, method or algorithm is not offered."""

    code = ErrorCode.UNSUPPORTED
    status = 400


class PageSizeInvalid(RegistryError):
    """The ``n`` of a listing is not a whole number of 0 or more."""

    code = ErrorCode.PAGINATION_NUMBER_INVALID
    status = 400

    def __init__(self, text: str) -> None:
        super().__init__("n must be a whole number, 0 or more", {"n": text[:100]})


class TooManyRequests(RegistryError):
    """The caller must wait; ``retry_after_seconds`` says how long."""

    code = ErrorCode.TOOMANYREQUESTS
    status = 429

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message, {"retry_after": retry_after_seconds})
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(RegistryError):
    """The disk or the database cannot take this now; nothing acknowledged is harmed."""

    code = ErrorCode.UNAVAILABLE
    status = 503


#: What the operating system says when there is no room: on the disk, within a quota, in one file.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StorageFull(StoreUnavailable):
    """There is no room: the disk or its quota is full, or a file must not grow."""

    status = 507

    def __init__(self, number: int | None = None) -> None:
        """Say what is full; ``number`` is one of ``NO_ROOM``."""
        full = {errno.EDQUOT: "quota is full", errno.EFBIG: "files must not become this large (RLIMIT_FSIZE)"}
        what = full.get(number or 0, "disk is full")
        super().__init__(f"the registry's {what}: free space or ask its operator, then push again")


class BodyBroken(RegistryError):
    """The client went away, or stopped sending, in the middle of a body."""

    code = ErrorCode.BLOB_UPLOAD_INVALID
    status = 400

    def __init__(self, reason: str = "the connection ended in the middle of the body") -> None:
        super().__init__(reason)
