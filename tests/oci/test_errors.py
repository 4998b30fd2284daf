"""Tests of ``dockreg_tx.oci.errors``."""

from __future__ import annotations

import errno
import json
import re

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci import errors
from dockreg_tx.oci.errors import ErrorCode, RegistryError

EXAMPLES: list[tuple[str, int, RegistryError]] = [
    ("NAME_INVALID", 400, errors.NameInvalid("A")),
    ("NAME_UNKNOWN", 404, errors.NameUnknown("a")),
    ("TAG_INVALID", 400, errors.TagInvalid("-")),
    ("DIGEST_INVALID", 400, errors.DigestInvalid("bad")),
    ("DIGEST_INVALID", 400, errors.DigestMismatch("sha256:a", "sha256:b")),
    ("BLOB_UNKNOWN", 404, errors.BlobUnknown("sha256:a")),
    ("BLOB_UPLOAD_UNKNOWN", 404, errors.BlobUploadUnknown("1")),
    ("BLOB_UPLOAD_INVALID", 400, errors.BlobUploadInvalid("cut")),
    ("BLOB_UPLOAD_INVALID", 416, errors.RangeOutOfOrder("gap", 7)),
    ("UNSUPPORTED", 416, errors.RangeNotSatisfiable(7)),
    ("SIZE_INVALID", 400, errors.SizeInvalid("differs")),
    ("SIZE_INVALID", 413, errors.BodyTooLarge(7)),
    ("MANIFEST_INVALID", 400, errors.ManifestInvalid("bad")),
    ("MANIFEST_INVALID", 413, errors.ManifestTooLarge(7)),
    ("MANIFEST_UNKNOWN", 404, errors.ManifestUnknown("a", "v1")),
    ("MANIFEST_BLOB_UNKNOWN", 400, errors.ManifestBlobUnknown(["sha256:a"])),
    ("UNAUTHORIZED", 401, errors.Unauthorized("log in")),
    ("DENIED", 403, errors.Denied("no")),
    ("UNSUPPORTED", 400, errors.Unsupported("no")),
    ("UNSUPPORTED", 414, errors.TagsTooMany(46)),
    ("DENIED", 412, errors.PreconditionFailed("v1", None)),
    ("PAGINATION_NUMBER_INVALID", 400, errors.PageSizeInvalid("x")),
    ("TOOMANYREQUESTS", 429, errors.TooManyRequests("wait", 5)),
    ("UNAVAILABLE", 503, errors.StoreUnavailable("disk")),
    ("UNAVAILABLE", 507, errors.StorageFull()),
    ("BLOB_UPLOAD_INVALID", 400, errors.BodyBroken()),
]


class RegistryErrorTests(SynchronousTestCase):
    """Every class of refusal."""

    def test_codes(self) -> None:
        """Each refusal has the code and status that clients decide on, and a message in JSON."""
        for code, status, error in EXAMPLES:
            with self.subTest(error=type(error).__name__):
                entry = error.entries()[0]
                self.assertEqual((code, status), (entry["code"], error.status))
                self.assertTrue(entry["message"])
                self.assertEqual(entry, json.loads(json.dumps(entry)))

    def test_all_listed(self) -> None:
        """No refusal escapes the table above; codes are upper case with underscores."""
        tested = {type(error) for _, _, error in EXAMPLES}
        defined = {value for value in vars(errors).values() if isinstance(value, type)}
        refusals = {kind for kind in defined if issubclass(kind, RegistryError)} - {RegistryError}
        self.assertEqual(set(), refusals - tested)
        for code in ErrorCode:
            self.assertTrue(re.fullmatch("[A-Z]+(_[A-Z]+)*", code))

    def test_detail(self) -> None:
        """Detail is in the entry only when there is some."""
        self.assertNotIn("detail", errors.Denied("no").entries()[0])
        self.assertEqual({"offset": 7}, errors.RangeOutOfOrder("gap", 7).entries()[0]["detail"])

    def test_what_is_full(self) -> None:
        """A full disk, a full quota and a limit of file sizes are told apart for those who have to act."""
        texts = [
            str(errors.StorageFull(number)) for number in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        ]
        for word, text in zip(("disk is full", "disk is full", "quota", "RLIMIT_FSIZE"), texts, strict=True):
            self.assertIn(word, text)

    def test_one_entry_for_each_digest(self) -> None:
        """Every missing blob of a manifest is named."""
        entries = errors.ManifestBlobUnknown(["sha256:a", "sha256:b"]).entries()
        self.assertEqual(
            [{"digest": "sha256:a"}, {"digest": "sha256:b"}], [entry["detail"] for entry in entries]
        )
