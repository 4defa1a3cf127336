"""Results signed by C2PA (extra `c2pa`): who made a picture, that a model did, and from which source.

c2pa-python is imported when needed, and here only. Must not import a backend.
"""

import io
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pixrt._version import __version__
from pixrt.errors import OptionError, OutputError, PackageMissing
from pixrt.pictures.credentials import read_credentials
from pixrt.pictures.formats import media_type_of
from pixrt.pictures.provenance import SourceType

_AGENT = {"name": "pixrt", "version": __version__}
# A source from the network may name a manifest elsewhere: nothing is fetched. Without thumbnails no result holds its
# source's picture. What was signed is read again, so that no signature is given out that does not hold.
_SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True, slots=True)
class Signature:
    """What the signature of a picture says.

    `state` is Invalid, Valid, or Trusted if c2pa knows whom the signer's certificate hangs on; `source_type` is how the
    picture came about, as the signer says.
    """

    state: str
    signer: str
    source_type: str | None


class Signer:
    """Signs pictures with a certificate; threads may share it.

    Args:
        cert: a PEM file: the signer's certificate, then those that it hangs on.
        key: a PEM file: its private key, not encrypted: ECDSA on P-256, P-384 or P-521, RSA, or Ed25519.

    Raises OptionError for files that cannot be used, or that C2PA does not accept; PackageMissing.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        _require_packages()
        import c2pa

        credentials = read_credentials(cert, key)
        try:
            info = c2pa.C2paSignerInfo(credentials.algorithm, credentials.chain, credentials.key, None)
            self._context = c2pa.Context.from_dict(_SETTINGS, signer=c2pa.Signer.from_info(info))
            self._sign(_smallest_picture(), "image/png", SourceType.GENERATED, None)
        except c2pa.C2paError as error:
            raise OptionError(
                f"{cert} cannot sign pictures: {_reason(error)}",
                remedy="Use a certificate as C2PA asks for: for digital signatures, with the extended usage"
                " emailProtection, issued by another",
            ) from error

    def sign(self, data: bytes, media_type: str, source: bytes | None, made: SourceType = SourceType.EDITED) -> bytes:
        """An encoded picture with its manifest inside; nothing else of it changes.

        `source` is the file that an edit began with: it becomes the manifest's ingredient, by its SHA-256 (a name as in
        RFC 6920), with its own manifest if it has one. Raises OutputError, also when the certificate has expired.
        """
        import c2pa

        try:
            if source is not None:
                # If the source's own manifest is broken, its hash still stands.
                with suppress(c2pa.C2paError):
                    return self._sign(data, media_type, made, source, read_source=True)
            return self._sign(data, media_type, made, source)
        except c2pa.C2paError as error:
            raise OutputError(
                f"the result cannot be signed: {_reason(error)}", remedy="Check that the certificate is still valid"
            ) from error

    def _sign(
        self, data: bytes, media_type: str, made: SourceType, source: bytes | None, *, read_source: bool = False
    ) -> bytes:
        import c2pa

        ingredient = None if source is None else _ingredient(source)
        manifest = _manifest(made, None if read_source else ingredient, is_edit=ingredient is not None)
        with c2pa.Builder(manifest, context=self._context) as builder:
            if source is not None and ingredient is not None:
                builder.set_intent(c2pa.C2paBuilderIntent.EDIT)  # puts an action before ours: the source was opened
                if read_source:
                    builder.add_ingredient(ingredient, ingredient["format"], io.BytesIO(source))
            signed = io.BytesIO()
            builder.sign(media_type, io.BytesIO(data), signed)
            return signed.getvalue()


def read_signature(data: bytes) -> Signature | None:
    """The C2PA signature of an encoded picture; None if there is none. Raises PackageMissing."""
    _require_packages()
    import c2pa

    try:
        with c2pa.Reader(media_type_of(data), io.BytesIO(data), context=c2pa.Context.from_dict(_SETTINGS)) as reader:
            manifest: dict[str, Any] = reader.get_active_manifest() or {}
            state = str(reader.get_validation_state())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError:
        return Signature("Invalid", "", None)
    info = manifest.get("signature_info") or {}
    return Signature(state, str(info.get("common_name") or info.get("issuer") or ""), _source_type(manifest))


def _manifest(made: SourceType, ingredient: dict[str, str] | None, *, is_edit: bool) -> dict[str, Any]:
    action = {
        "action": "c2pa.edited" if is_edit else "c2pa.created",
        "digitalSourceType": made.value,
        "softwareAgent": _AGENT,
    }
    return {
        "claim_generator_info": [_AGENT],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}, "created": True}],
        **({"ingredients": [ingredient]} if ingredient else {}),
    }


def _ingredient(source: bytes) -> dict[str, str]:
    digest = urlsafe_b64encode(sha256(source).digest()).rstrip(b"=").decode()
    return {
        "title": "source",
        "format": media_type_of(source),
        "relationship": "parentOf",
        "instance_id": f"ni:///sha-256;{digest}",
    }


def _source_type(manifest: dict[str, Any]) -> str | None:
    """What the last action says that says any."""
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if str(assertion.get("label")).startswith("c2pa.actions")
        for action in assertion["data"].get("actions", ())
    ]
    types = [str(action["digitalSourceType"]) for action in actions if "digitalSourceType" in action]
    return types[-1] if types else None


def _smallest_picture() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _require_packages() -> None:
    missing = [name for name in ("c2pa", "cryptography") if find_spec(name) is None]
    if missing:
        raise PackageMissing(
            f"C2PA signatures need {' and '.join(missing)}, which cannot be imported here",
            remedy="Install what is missing: pip install 'pixrt[c2pa]'",
        )
