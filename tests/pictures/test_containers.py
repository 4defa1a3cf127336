"""Metadata that an edit does not need never makes a picture unreadable: pixels upright, as lenient readers see them."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, UnidentifiedImageError

from pixrt.errors import PictureError
from pixrt.pictures.containers import MOST_PROFILE_BYTES, contained, text_of
from pixrt.pictures.images import load_picture, measure_picture

FIELD = Path(__file__).parents[1] / "data" / "field" / "pictures"
PICTURE = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
PNG_HEAD = 8 + 25  # the signature and IHDR


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, format, **options)
    return file.getvalue()


PNG, JPEG = saved("PNG"), saved("JPEG", quality=90)
JPEG_PIXELS = np.asarray(Image.open(io.BytesIO(JPEG)))
PROGRESSIVE = saved("JPEG", quality=90, progressive=True)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def with_chunk(part: bytes) -> bytes:
    return PNG[:PNG_HEAD] + part + PNG[PNG_HEAD:]


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_segment(part: bytes) -> bytes:
    return JPEG[:2] + part + JPEG[2:]


def tiff(*entries: tuple[int, int, int, bytes], order: str = ">") -> bytes:
    """An EXIF block of one directory: tag, type, count, and four bytes each."""
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(f"{order}H", len(entries)) + body + bytes(4)


def turned(orientation: int) -> tuple[int, int, int, bytes]:
    return 0x0112, 3, 1, struct.pack(">HH", orientation, 0)


@pytest.mark.parametrize("path", sorted(FIELD.iterdir()), ids=lambda path: path.name)
def test_files_that_failed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = load_picture(path)
    assert load_picture(path.read_bytes()).rgb.tobytes() == picture.rgb.tobytes()
    assert measure_picture(path) == picture.rgb.shape[1::-1]
    # A lenient reader: Pillow, if it ignores checksums and what is cut, turned by hand.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        pytest.skip("Pillow before 12 reads no such file, lenient or not: there is nothing to compare with")
    with image:
        lenient = image.convert("RGB")
        if path.name.startswith("exif_"):
            lenient = lenient.transpose(Image.Transpose.ROTATE_270)  # orientation 6
    np.testing.assert_array_equal(picture.rgb, np.asarray(lenient))


ODD_CHUNKS: dict[str, bytes] = {
    **{f"{kind!r} empty": chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"iCCP", b"eXIf")},
    **{f"{kind!r} long": chunk(kind, bytes(5000)) for kind in (b"gAMA", b"cHRM", b"sRGB", b"tEXt", b"iTXt", b"zTXt")},
    **{
        f"{kind!r} of a wrong checksum": chunk(kind, b"a\0b", 0)
        for kind in (b"tEXt", b"pHYs", b"gAMA", b"iCCP", b"eXIf")
    },
    "a transparency of a wrong checksum": chunk(b"tRNS", bytes(6), 0),
    "a transparency too short": chunk(b"tRNS", bytes(1)),
    "a transparency too long": chunk(b"tRNS", bytes(300)),
    "texts that unpack to a gigabyte": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26), 9)),
    "texts that do not unpack": chunk(b"zTXt", b"a\0\0nonsense"),
    "an iTXt without its parts": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"),
    "a profile that does not unpack": chunk(b"iCCP", b"a\0\0nonsense"),
    "a profile that is none": chunk(b"iCCP", b"a\0\0" + zlib.compress(b"nonsense")),
    "a profile that unpacks to 64 MiB": chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 26), 9)),
    "a profile without a name's end": chunk(b"iCCP", b"a" * 90),
    "EXIF that is none": chunk(b"eXIf", b"nonsense"),
    "EXIF that ends early": chunk(b"eXIf", tiff(turned(6))[:12]),
    "EXIF of ImageMagick that is none": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  9\nzz"),
    "an animation of no frame": chunk(b"acTL", bytes(8)),
    "a chunk of a name that is none": chunk(b"q~!?", bytes(8)),
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_a_png_with_an_odd_chunk(name: str) -> None:
    np.testing.assert_array_equal(load_picture(with_chunk(ODD_CHUNKS[name])).rgb, PICTURE)


ODD_SEGMENTS: dict[str, bytes] = {
    **{f"APP{number} empty": segment(0xE0 + number, b"") for number in range(16)},
    **{f"APP{number} of nonsense": segment(0xE0 + number, b"nonsense" * 9) for number in range(16)},
    "a short JFIF": segment(0xE0, b"JFIF\0\1"),
    "a short Adobe": segment(0xEE, b"Adobe\0"),
    "a second picture's index that is none": segment(0xE2, b"MPF\0nonsense"),
    "a profile that is none": segment(0xE2, b"ICC_PROFILE\0\1\1nonsense"),
    "a profile without numbers": segment(0xE2, b"ICC_PROFILE\0"),
    "a profile with a part missing": segment(0xE2, b"ICC_PROFILE\0\2\2nonsense"),
    "EXIF that is none": segment(0xE1, b"Exif\0\0nonsense"),
    "EXIF empty": segment(0xE1, b"Exif\0\0"),
    "EXIF of a directory beyond it": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "EXIF in a circle": segment(0xE1, b"Exif\0\0" + tiff((0x8769, 4, 1, struct.pack(">I", 8)))),
    "Photoshop's resources that are none": segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\xff\xff\xff\xff"),
    "a comment": segment(0xFE, b"\xff\xd8\xff\xd9"),
}


@pytest.mark.parametrize("name", ODD_SEGMENTS)
def test_a_jpeg_with_an_odd_segment(name: str) -> None:
    np.testing.assert_array_equal(load_picture(with_segment(ODD_SEGMENTS[name])).rgb, JPEG_PIXELS)


@pytest.mark.parametrize("kind", range(14))
@pytest.mark.parametrize("tag", [0x0100, 0x010F, 0x011A, 0x011B, 0x0128, 0x0132, 0x8298, 0x9000])
def test_exif_of_any_type_is_turned_by_its_orientation(tag: int, kind: int) -> None:
    """Types beyond 12 are none; a value of the wrong type is not written again, so it does no harm."""
    block = tiff((tag, kind, 1, b"\xff\xfe\x80\x00"), turned(6), (0xA002, kind, 0xFFFFFFFF, b"\xff\xff\xff\xff"))
    for data, pixels in (
        (with_segment(segment(0xE1, b"Exif\0\0" + block)), JPEG_PIXELS),
        (with_chunk(chunk(b"eXIf", block)), PICTURE),
    ):
        picture = load_picture(data)
        np.testing.assert_array_equal(picture.rgb, np.rot90(pixels, -1))
        assert measure_picture(data) == (24, 40)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none(orientation: int) -> None:
    data = with_segment(segment(0xE1, b"Exif\0\0" + tiff(turned(orientation))))
    np.testing.assert_array_equal(load_picture(data).rgb, JPEG_PIXELS)


@pytest.mark.parametrize("format", ["WEBP", "AVIF"])
def test_other_formats_with_odd_exif(format: str) -> None:
    good = tiff((0x0100, 3, 1, bytes(4)), (0x0101, 3, 1, bytes(4)), turned(6))
    odd = tiff((0x0100, 7, 4, b"\xff" * 4), (0x011A, 2, 4, b"72/1"), *([turned(6)] if format == "WEBP" else []))
    options = {"lossless": True} if format == "WEBP" else {}
    data, plain = saved(format, exif=b"Exif\0\0" + good, **options), saved(format, **options)
    at = data.index(good[:4])
    data = data[:at] + odd + data[at + len(odd) :]  # an AVIF is turned by a box of its own
    np.testing.assert_array_equal(load_picture(data).rgb, np.rot90(load_picture(plain).rgb, -1))


ENDS: dict[str, Callable[[], bytes]] = {
    "sequential": lambda: JPEG,
    "progressive": lambda: PROGRESSIVE,
    "with restarts": lambda: saved("JPEG", restart_marker_rows=1),
    "grey": lambda: _grey(),
}


def _grey() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE[:, :, 0]).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize("name", ENDS)
def test_a_jpeg_that_lacks_only_its_end(name: str) -> None:
    whole = ENDS[name]()
    assert whole.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(load_picture(whole[:-2]).rgb, load_picture(whole).rgb)
    np.testing.assert_array_equal(load_picture(whole[:-1]).rgb, load_picture(whole).rgb)


@pytest.mark.parametrize("name", ENDS)
def test_a_jpeg_that_lacks_pixels(name: str) -> None:
    """Wherever it is cut; of the last byte some bits may be padding."""
    whole = ENDS[name]()
    pixels, refused = load_picture(whole).rgb, 0
    for cut in [*range(4, 40), *range(40, len(whole) - whole.rindex(b"\xff\xda"), 37)]:
        try:
            np.testing.assert_array_equal(load_picture(whole[:-cut]).rgb, pixels)
        except PictureError:
            refused += 1
    assert refused


def test_a_png_that_lacks_pixels() -> None:
    for cut in range(40, 1000, 50):
        with pytest.raises(PictureError):
            load_picture(PNG[:-cut])


def test_a_large_profile_is_used() -> None:
    """One of 2 MiB, more than Pillow takes: of a display whose red is sRGB's green, with 2 MiB of something behind."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    padded = profile + bytes(2 << 20)
    padded = struct.pack(">I", len(padded)) + padded[4:]
    data = with_chunk(chunk(b"iCCP", b"it\0\0" + zlib.compress(padded)))
    assert len(contained(data).icc) == len(padded) < MOST_PROFILE_BYTES
    assert np.abs(load_picture(data).rgb.astype(int) - PICTURE).max() <= 1


def test_only_what_is_used_is_passed_on() -> None:
    data = with_chunk(chunk(b"tEXt", b"prompt\0secret") + chunk(b"tIME", bytes(7)) + chunk(b"gAMA", bytes(4)))
    kept = contained(data)
    assert kept.data == PNG
    assert text_of(kept.texts["prompt"], 100) == "secret"
    assert text_of(kept.texts["prompt"], 5) is None
    assert contained(with_segment(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"))).xmp == b"<x/>"


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.binary(max_size=40), st.booleans()), max_size=4))
def test_any_ancillary_chunk(parts: list[tuple[bytes, bytes, bool]]) -> None:
    odd = [(bytes([each[0] | 0x20]), each[1:], data, right) for each, data, right in parts]
    chunks = (chunk(first + rest, data, None if right else 7) for first, rest, data, right in odd)
    data = with_chunk(b"".join(chunks))
    assert load_picture(data).straight.shape == PICTURE.shape


@given(st.lists(st.tuples(st.sampled_from([*range(0xE0, 0xF0), 0xFE]), st.binary(max_size=60)), max_size=4))
def test_any_segment_of_an_application(parts: list[tuple[int, bytes]]) -> None:
    data = with_segment(b"".join(segment(*part) for part in parts))
    assert load_picture(data).rgb.shape in (JPEG_PIXELS.shape, JPEG_PIXELS.transpose(1, 0, 2).shape)
