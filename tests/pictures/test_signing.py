"""C2PA signatures, read by c2pa's own reader, which trusts a root that is made here."""

import io
import json
import socket
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from PIL import Image

from certificates import SIGNER, Chain, make_chain, write_key
from pixrt._version import __version__
from pixrt.errors import OptionError, OutputError, PackageMissing
from pixrt.options.marking import MarkingOptions
from pixrt.pictures import signing
from pixrt.pictures.codecs import encode_picture, read_parameters
from pixrt.pictures.formats import MEDIA_TYPES, Format
from pixrt.pictures.marking import Marking
from pixrt.pictures.marks import read_marks
from pixrt.pictures.provenance import SourceType
from pixrt.pictures.signing import Signature, Signer, read_signature

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def signer(chain: Chain) -> Signer:
    return Signer(chain.cert, chain.key)


def picture(format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    NOISE.save(file, format, **options)
    return file.getvalue()


def read(data: bytes, media_type: str, chain: Chain) -> dict[str, Any]:
    """The active manifest of a picture that is trusted, by an independent reader."""
    settings = {"verify": {"verify_trust": True}, "trust": {"trust_anchors": chain.root.read_text()}}
    with c2pa.Reader(media_type, io.BytesIO(data), context=c2pa.Context.from_dict(settings)) as reader:
        assert reader.get_validation_state() == "Trusted"
        assert reader.get_validation_results()["activeManifest"]["failure"] == []
        manifest: dict[str, Any] = reader.get_active_manifest()
    return manifest


def actions(manifest: dict[str, Any]) -> list[tuple[str, str | None]]:
    (found,) = (each["data"]["actions"] for each in manifest["assertions"] if each["label"] == "c2pa.actions.v2")
    return [(action["action"], action.get("digitalSourceType")) for action in found]


def name_of(source: bytes) -> str:
    return "ni:///sha-256;" + urlsafe_b64encode(sha256(source).digest()).decode().rstrip("=")


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_an_edit_names_its_source(format: Format, chain: Chain, tmp_path: Path) -> None:
    source = tmp_path / "source.webp"
    source.write_bytes(picture("WEBP"))
    marking = Marking.of(MarkingOptions(c2pa_cert=chain.cert, c2pa_key=chain.key))
    unsigned = encode_picture(NOISE, format, parameters='{"pixrt": "0"}', made=SourceType.EDITED)
    signed = encode_picture(
        NOISE, format, parameters='{"pixrt": "0"}', made=SourceType.EDITED, marking=marking, source=source
    )
    manifest = read(signed, MEDIA_TYPES[format], chain)
    assert actions(manifest) == [("c2pa.opened", None), ("c2pa.edited", SourceType.EDITED.value)]
    (ingredient,) = manifest["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    assert ingredient["instance_id"] == name_of(source.read_bytes())
    assert ingredient["format"] == "image/webp"
    assert "thumbnail" not in json.dumps(manifest)  # the source's picture is not in the result
    assert manifest["signature_info"]["common_name"] == SIGNER
    assert manifest["claim_generator_info"][0]["name"] == "pixrt"
    assert manifest["claim_generator_info"][0]["version"] == __version__
    # Pixels, parameters and XMP are what they were.
    path = tmp_path / f"signed.{format}"
    path.write_bytes(signed)
    assert read_parameters(path) == {"pixrt": "0"}
    with Image.open(io.BytesIO(signed)) as one, Image.open(io.BytesIO(unsigned)) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert one.info["xmp"] == other.info["xmp"]
    assert read_marks(path).signature == Signature("Valid", SIGNER, SourceType.EDITED.value)


def test_what_has_no_file_to_name(signer: Signer, chain: Chain) -> None:
    generated = signer.sign(picture(), "image/png", None, SourceType.GENERATED)
    assert actions(read(generated, "image/png", chain)) == [("c2pa.created", SourceType.GENERATED.value)]
    marking = Marking(signer=signer)
    of_array = encode_picture(
        NOISE, "png", parameters="{}", made=SourceType.EDITED, marking=marking, source=np.asarray(NOISE)
    )
    assert actions(read(of_array, "image/png", chain)) == [("c2pa.created", SourceType.EDITED.value)]
    with pytest.raises(OutputError, match="cannot be read"):
        encode_picture(NOISE, "png", parameters="{}", made=SourceType.EDITED, marking=marking, source="gone.png")


def test_an_edit_of_a_signed_edit_keeps_the_whole_story(signer: Signer, chain: Chain) -> None:
    first = signer.sign(picture("JPEG"), "image/jpeg", picture())
    second = signer.sign(picture("AVIF"), "image/avif", first)
    (ingredient,) = read(second, "image/avif", chain)["ingredients"]
    assert ingredient["instance_id"] == name_of(first)
    with c2pa.Reader("image/jpeg", io.BytesIO(first)) as before, c2pa.Reader("image/avif", io.BytesIO(second)) as now:
        stories = json.loads(before.json())["manifests"], json.loads(now.json())["manifests"]
    assert ingredient["active_manifest"] in stories[0]
    assert len(stories[1]) == 2


def test_a_source_whose_manifest_is_broken(signer: Signer, chain: Chain) -> None:
    """What cannot be read of it is left out; its hash stands."""
    source = signer.sign(picture("JPEG"), "image/jpeg", None)
    at = source.index(b"c2pa.assertions")
    broken = source[:at] + bytes(300) + source[at + 300 :]
    assert read_signature(broken) == Signature("Invalid", "", None)
    (ingredient,) = read(signer.sign(picture(), "image/png", broken), "image/png", chain)["ingredients"]
    assert ingredient["instance_id"] == name_of(broken)
    assert "active_manifest" not in ingredient


def test_a_source_that_was_changed(signer: Signer, chain: Chain) -> None:
    """Its manifest is kept, and that it did not hold any more."""
    source = signer.sign(picture("JPEG"), "image/jpeg", None)
    changed = source.replace(b"c2pa.created", b"c2pa.drawing")
    assert changed != source
    (ingredient,) = read(signer.sign(picture(), "image/png", changed), "image/png", chain)["ingredients"]
    assert ingredient["instance_id"] == name_of(changed)
    failures = [each["code"] for each in ingredient["validation_results"]["activeManifest"]["failure"]]
    assert "assertion.hashedURI.mismatch" in failures


def test_nothing_is_fetched_for_a_source(signer: Signer, chain: Chain) -> None:
    """A picture may say that its manifest is at an address: a client could have the server call any."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        xmp = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="{url}"/>'
            "</rdf:RDF></x:xmpmeta>"
        )
        source = picture("JPEG", xmp=xmp.encode())
        read(signer.sign(picture(), "image/png", source), "image/png", chain)
        assert read_signature(source) in (None, Signature("Invalid", "", None))
        with pytest.raises(TimeoutError):
            server.accept()


def test_what_is_changed_is_found(signer: Signer) -> None:
    signed = signer.sign(picture("JPEG"), "image/jpeg", None)
    at = signed.rindex(b"\xff\xda") + 200
    changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    assert read_signature(signed) == Signature("Valid", SIGNER, SourceType.EDITED.value)
    found = read_signature(changed)
    assert found is not None
    assert found.state == "Invalid"
    assert read_signature(picture()) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
)
def test_other_keys(make: Callable[[], Any], tmp_path: Path) -> None:
    chain = make_chain(tmp_path, make())
    read(Signer(chain.cert, chain.key).sign(picture(), "image/png", None), "image/png", chain)


def test_a_key_as_openssl_writes_it(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = make_chain(tmp_path, key)
    write_key(chain.key, key, format=PrivateFormat.TraditionalOpenSSL)
    Signer(chain.cert, chain.key)


def test_threads_share_a_signer(signer: Signer, chain: Chain) -> None:
    with ThreadPoolExecutor(4) as pool:
        signed = list(pool.map(lambda _: signer.sign(picture(), "image/png", picture()), range(40)))
    for data in signed:
        read(data, "image/png", chain)


def _expired(folder: Path) -> Chain:
    return make_chain(folder, begins=timedelta(days=-3), ends=timedelta(days=-1))


def _not_yet(folder: Path) -> Chain:
    return make_chain(folder, begins=timedelta(days=1), ends=timedelta(days=3))


def _another_key(folder: Path) -> Chain:
    chain = make_chain(folder)
    write_key(chain.key, ec.generate_private_key(ec.SECP256R1()))
    return chain


def _encrypted(folder: Path) -> Chain:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = make_chain(folder, key)
    write_key(chain.key, key, phrase=b"secret")
    return chain


def _dsa(folder: Path) -> Chain:
    chain = make_chain(folder)
    write_key(chain.key, dsa.generate_private_key(1024))
    return chain


def _exchanged(folder: Path) -> Chain:
    chain = make_chain(folder)
    return Chain(chain.key, chain.cert, chain.root)


def _without_key(folder: Path) -> Chain:
    chain = make_chain(folder)
    chain.key.unlink()
    return chain


WRONG: dict[str, tuple[Callable[[Path], Chain], str]] = {
    "expired": (_expired, "is valid from .* Renew it"),
    "not yet valid": (_not_yet, "is valid from"),
    "another's key": (_another_key, "is not that of the first certificate"),
    "an encrypted key": (_encrypted, "is encrypted. Give one without a pass phrase"),
    "a key of DSA": (_dsa, "cannot sign with .DSA"),
    "a curve that is not C2PA's": (
        lambda folder: make_chain(folder, ec.generate_private_key(ec.SECP256K1())),
        "cannot sign with .secp256k1",
    ),
    "too short a key": (lambda folder: make_chain(folder, rsa.generate_private_key(65537, 1024)), "cannot sign"),
    "for web servers": (
        lambda folder: make_chain(folder, usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        "cannot sign pictures: .* Use a certificate as C2PA asks for",
    ),
    "files exchanged": (_exchanged, "is no private key"),
    "no key": (_without_key, "cannot be read: No such file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_certificates_are_refused_at_once(name: str, tmp_path: Path) -> None:
    make, words = WRONG[name]
    chain = make(tmp_path)
    with pytest.raises(OptionError, match=words) as caught:
        Signer(chain.cert, chain.key)
    assert "PRIVATE" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_certificates_that_are_none(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(OptionError, match="holds no certificate"):
        Signer(tmp_path / "cert.pem", chain.key)
    with pytest.raises(OptionError, match="cannot be read: Is a directory"):
        Signer(tmp_path, chain.key)


def test_a_certificate_that_expires_meanwhile(chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The check of today passes; what c2pa says when it signs is told."""
    expired = _expired(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(signing, "read_credentials", lambda *_: signing_credentials(expired))
        patch.setattr(Signer, "_sign", lambda *_: b"")
        late = Signer(expired.cert, expired.key)
    with pytest.raises(OutputError, match=r"cannot be signed: .*not valid at time of signing"):
        late.sign(picture(), "image/png", picture())


def signing_credentials(chain: Chain) -> Any:
    from pixrt.pictures.credentials import Credentials

    return Credentials("es256", chain.cert.read_bytes(), chain.key.read_bytes())


def test_without_the_packages(chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(signing, "find_spec", lambda name: None)
    with pytest.raises(PackageMissing, match=r"need c2pa and cryptography.*pixrt\[c2pa\]"):
        Signer(chain.cert, chain.key)
    NOISE.save(tmp_path / "it.png")
    assert "c2pa" in read_marks(tmp_path / "it.png").signature_unread


def test_both_or_none(chain: Chain) -> None:
    with pytest.raises(OptionError, match="c2pa_cert is given without c2pa_key"):
        MarkingOptions(c2pa_cert=chain.cert)
    with pytest.raises(OptionError, match="c2pa_key is given without c2pa_cert"):
        MarkingOptions(c2pa_key=chain.key)
