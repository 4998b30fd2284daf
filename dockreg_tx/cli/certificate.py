"""What ``dockreg doctor`` says of a certificate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreContext, X509StoreContextError

from dockreg_tx.cli.findings import Check, State

#: Time enough to renew it by hand.
_SOON = timedelta(days=14)


#: OpenSSL's X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, …_LOCALLY, and …_VERIFY_LEAF_SIGNATURE.
_ISSUER_UNKNOWN = frozenset({2, 20, 21})


@dataclass(frozen=True, slots=True)
class Authority:
    """Who issued a certificate; ``path`` is empty when its own is not among our files."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of a certificate with its chain, and of its key."""

    certificate: str
    key: str


def check_certificate(files: CertificateFiles, host: str, *, now: float) -> Iterator[Check]:
    """Yield what is good and bad about a certificate; ``host`` is what clients call us, or empty."""
    try:
        with open(files.certificate, "rb") as file:
            chain = x509.load_pem_x509_certificates(file.read())
        with open(files.key, "rb") as file:
            key = load_pem_private_key(file.read(), None)
    except (OSError, ValueError, TypeError) as error:
        yield Check("certificate", State.FAIL, f"{files.certificate}, {files.key}: {error}")
        return
    own = chain[0]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        yield Check("certificate", State.FAIL, f"{files.key} is not the key of {files.certificate}")
    yield _check_time(own, datetime.fromtimestamp(now, UTC))
    yield from _check_names(own, host)
    yield _check_chain(chain)


def check_authorities(path: str, *, now: float) -> Iterator[Check]:
    """Yield what is good and bad about the authorities of clients."""
    try:
        with open(path, "rb") as file:
            found = x509.load_pem_x509_certificates(file.read())
    except (OSError, ValueError) as error:
        yield Check("client_ca", State.FAIL, f"{path}: {error}")
        return
    at = datetime.fromtimestamp(now, UTC)
    for each in found:
        name, check = each.subject.rfc4514_string(), _check_time(each, at)
        yield Check("client_ca", check.state, f"clients with a certificate by {name}: {check.text}")


def _check_time(own: x509.Certificate, now: datetime) -> Check:
    until = own.not_valid_after_utc
    text = f"valid until {until:%Y-%m-%d %H:%M} UTC"
    if own.not_valid_before_utc > now:
        return Check(
            "certificate", State.FAIL, f"not valid before {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        )
    if until <= now:
        return Check("certificate", State.FAIL, f"expired: {text}; renew it")
    return Check("certificate", State.WARN if until - now < _SOON else State.OK, text)


def _check_names(own: x509.Certificate, host: str) -> Iterator[Check]:
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield Check("certificate", State.FAIL, "it has no subjectAltName: Go's clients (docker) refuse it")
        return
    texts = [str(name.value) for name in names]
    if host and not any(_is_for(text, host) for text in texts):
        yield Check("certificate", State.FAIL, f"it is for {', '.join(texts)}, not for {host}")
    else:
        yield Check("certificate", State.OK, f"for {', '.join(texts)}")


def _is_for(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()


def _check_chain(chain: list[x509.Certificate]) -> Check:
    for lower, upper in pairwise(chain):
        if lower.issuer != upper.subject:
            text = f"the chain is broken: {upper.subject.rfc4514_string()} did not issue the one before it"
            return Check("certificate", State.FAIL, text)
    if chain[-1].issuer == chain[-1].subject:
        return Check(
            "certificate", State.OK, "its authority is in the file: clients must be given it, see below"
        )
    return Check(
        "certificate",
        State.OK,
        f"chain of {len(chain)}, issued by {chain[-1].issuer.rfc4514_string()}"
        f"{'' if _is_known(chain) else ', whom this machine does not know'}",
    )


def authority_of(files: CertificateFiles) -> Authority | None:
    """Return the authority that clients have to be given; None when they know it, as this machine does."""
    try:
        with open(files.certificate, "rb") as file:
            chain = x509.load_pem_x509_certificates(file.read())
    except (OSError, ValueError):
        return None
    name = chain[-1].issuer.rfc4514_string()
    if chain[-1].issuer == chain[-1].subject:
        return Authority(name, os.path.abspath(files.certificate))
    return None if _is_known(chain) else Authority(name, "")


def _is_known(chain: list[x509.Certificate]) -> bool:
    """Tell whether this machine trusts who issued a chain, whatever else may be wrong with it."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_default_verify_paths()
    store = context.get_cert_store()
    own, *others = map(X509.from_cryptography, chain)
    if store is None:
        return False
    try:
        X509StoreContext(store, own, others).verify_certificate()
    except X509StoreContextError as error:
        return error.errors[0] not in _ISSUER_UNKNOWN
    return True
