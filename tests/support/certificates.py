"""Certificates for signing, made here: a root and what hangs on it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIGNER = "A. Signer"


@dataclass(frozen=True)
class Chain:
    """`cert` holds the signer's certificate and the root, `key` the signer's key, `root` the root alone."""

    cert: Path
    key: Path
    root: Path


def make_chain(
    folder: Path,
    key: Any = None,
    *,
    begins: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=1),
    usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
) -> Chain:
    """A chain of two, as C2PA asks for; `begins` and `ends` from now on."""
    key, root = key or ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    of_root = _certificate("A Root", root, root, timedelta(days=-30), timedelta(days=30), None)
    of_signer = _certificate(SIGNER, key, root, begins, ends, usages)
    chain = Chain(folder / "cert.pem", folder / "key.pem", folder / "root.pem")
    chain.cert.write_bytes(of_signer + of_root)
    chain.root.write_bytes(of_root)
    write_key(chain.key, key)
    return chain


def write_key(path: Path, key: Any, *, format: PrivateFormat = PrivateFormat.PKCS8, phrase: bytes = b"") -> None:
    """A private key as PEM, encrypted with a phrase if there is one."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(phrase) if phrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, format, encryption))


def _certificate(
    name: str, key: Any, issuer: Any, begins: timedelta, ends: timedelta, usages: tuple[Any, ...] | None
) -> bytes:
    """`usages` are those of an end entity; None makes an authority."""
    now, authority = datetime.now(UTC), usages is None
    signs = dict.fromkeys(("digital_signature",), not authority) | dict.fromkeys(
        ("key_cert_sign", "crl_sign"), authority
    )
    never = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    extensions: list[tuple[Any, bool]] = [
        (x509.BasicConstraints(ca=authority, path_length=None), True),
        (x509.KeyUsage(**signs, **dict.fromkeys((*never, "decipher_only"), False)), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False),
        *([(x509.ExtendedKeyUsage(usages), False)] if usages else []),
    ]
    builder = x509.CertificateBuilder(issuer_name=_name("A Root"))
    builder = builder.subject_name(_name(name)).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + begins).not_valid_after(now + ends)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer, SHA256()).public_bytes(Encoding.PEM)


def _name(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "T")]
    )
