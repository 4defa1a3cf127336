"""A certificate and its private key out of PEM files, as C2PA takes them; what is wrong with them is told at once.

cryptography is imported when needed, and here only. Must not import a backend.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pixrt.errors import OptionError
from pixrt.reading import read_regular

_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """`chain`: certificates (PEM), the signer's first. `key`: its key (PEM, PKCS 8). `algorithm`: C2PA's name of it."""

    algorithm: str
    chain: bytes
    key: bytes = field(repr=False)


def read_credentials(cert: Path, key: Path) -> Credentials:
    """Read both files. Raises OptionError if either cannot be used, they do not belong together, or not today."""
    chain = _read(cert)
    algorithm, private, public = _private_key(key)
    _check_certificate(cert, chain, key, public)
    return Credentials(algorithm, chain, private)


def _private_key(path: Path) -> tuple[str, bytes, bytes]:
    """What C2PA calls the key's algorithm, the key (PKCS 8), and its public half. Raises OptionError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise OptionError(
            f"the key {path} is encrypted",
            remedy="Give one without a pass phrase, which only its owner can read: openssl pkey -in OLD -out NEW",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise OptionError(f"{path} is no private key in PEM", remedy="Give the certificate's key") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        algorithm = _CURVES[key.curve.name]
    elif isinstance(key, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    else:
        kind = getattr(getattr(key, "curve", None), "name", type(key).__name__.strip("_"))
        raise OptionError(
            f"{path} is a key that C2PA cannot sign with ({kind})",
            remedy="Use ECDSA on P-256, P-384 or P-521, RSA, or Ed25519",
        )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return algorithm, private, key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_certificate(path: Path, chain: bytes, key: Path, public: bytes) -> None:
    """Raise OptionError unless the first certificate belongs to the key and is valid today."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_pem_x509_certificates

    try:
        first = load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise OptionError(
            f"{path} holds no certificate in PEM", remedy="Give the signer's, then its issuers'"
        ) from None
    if first.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        raise OptionError(
            f"the key {key} is not that of the first certificate in {path}",
            remedy="Put the signer's certificate first, or give its key",
        )
    begins, ends = first.not_valid_before_utc, first.not_valid_after_utc
    if not begins <= datetime.now(UTC) <= ends:
        raise OptionError(
            f"the certificate {path} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}", remedy="Renew it"
        )


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise OptionError(f"{path} cannot be read: Is a directory", remedy="Give a file in PEM")

    def refuse(problem: str) -> OptionError:
        return OptionError(problem, remedy="Check the path and its permissions")

    return read_regular(path, _MOST_BYTES, refuse)
