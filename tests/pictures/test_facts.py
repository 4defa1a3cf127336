"""What a result keeps of its source, and what it says of itself: read back by Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pixrt.editor.editor import Editor
from pixrt.options.marking import MarkingOptions
from pixrt.pictures.codecs import encode_picture
from pixrt.pictures.facts import SourceFacts
from pixrt.pictures.formats import MEDIA_TYPES, Format
from pixrt.pictures.images import load_picture
from pixrt.pictures.marking import Marking
from pixrt.pictures.provenance import SourceType

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
DATE, COPYRIGHT = "2024:02:29 12:30:59", "© Jörg 2024"
FACTS = SourceFacts(DATE, COPYRIGHT.encode(), (300.0, 300.0))
PARAMETERS = '{"pixrt": "0", "instruction": "secret words"}'


def photograph(format: str = "JPEG") -> bytes:
    """With what a camera writes, and a place."""
    exif = Image.Exif()
    exif[0x0132], exif[0x8298], exif[0x010F] = "2025:01:01 00:00:00", COPYRIGHT.encode(), "A camera"
    exif[0x011A] = exif[0x011B] = TiffImagePlugin.IFDRational(300, 1)
    exif[0x0128] = 2
    exif.get_ifd(0x8769)[0x9003] = DATE
    exif.get_ifd(0x8825)[1] = "N"
    file = io.BytesIO()
    NOISE.save(file, format, exif=exif.tobytes())
    return file.getvalue()


def kept_in(data: bytes) -> tuple[object, object, object, tuple[float, ...]]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        exif = image.getexif()
        copyright = exif.get(0x8298, "").encode("latin-1").decode()
        dpi = image.info.get("dpi") or (exif.get(0x011A, 0), exif.get(0x011B, 0))
        return exif.get(0x0132), exif.get_ifd(0x8769).get(0x9003), copyright, tuple(round(float(each)) for each in dpi)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_what_a_file_says(format: str) -> None:
    if format == "TIFF":
        file = io.BytesIO()
        NOISE.save(file, "TIFF", dpi=(300, 300))
        assert load_picture(file.getvalue()).facts == SourceFacts(dpi=(300.0, 300.0))
        return
    facts = load_picture(photograph(format)).facts
    assert (facts.date, facts.copyright) == (DATE, COPYRIGHT.encode())
    assert facts.dpi == pytest.approx((300.0, 300.0))


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_it_is_kept(format: Format) -> None:
    data = encode_picture(NOISE, format, parameters=PARAMETERS, made=SourceType.EDITED, facts=FACTS)
    assert kept_in(data) == (DATE, DATE, COPYRIGHT, (300, 300))
    again = load_picture(data).facts
    assert (again.date, again.copyright) == (FACTS.date, FACTS.copyright)
    assert again.dpi == pytest.approx(FACTS.dpi, rel=1e-3)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_it_is_left_out(format: Format) -> None:
    marking = Marking.of(MarkingOptions(strip_source_metadata=True))
    how = {"parameters": PARAMETERS, "made": SourceType.EDITED}
    stripped = encode_picture(NOISE, format, **how, facts=FACTS, marking=marking)
    assert stripped == encode_picture(NOISE, format, **how)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_nothing_of_ours(format: Format) -> None:
    marking = Marking.of(MarkingOptions(metadata=False))
    how = {"parameters": PARAMETERS, "made": SourceType.EDITED, "marking": marking}
    for facts in (SourceFacts(), FACTS):
        data = encode_picture(NOISE, format, **how, facts=facts)
        for word in (b"pixrt", b"secret", b"algorithmicmedia", b"xmpmeta"):
            assert word not in data.lower()
    assert kept_in(data) == (DATE, DATE, COPYRIGHT, (300, 300))


def test_what_is_odd_is_left_out() -> None:
    exif = Image.Exif()
    exif[0x0132] = "yesterday"
    exif[0x8298] = "x" * 5000
    exif[0x011A] = TiffImagePlugin.IFDRational(1, 0)
    exif[0x0128] = 2
    file = io.BytesIO()
    NOISE.save(file, "WEBP", exif=exif.tobytes())
    assert load_picture(file.getvalue()).facts == SourceFacts()


def test_an_edit_keeps_it(tmp_path: Path) -> None:
    with Editor("shapes") as editor:
        result = editor.edit(photograph(), "make the background blue", steps=1, seed=1)
    result.save(tmp_path / "it.jpg")
    assert kept_in((tmp_path / "it.jpg").read_bytes()) == (DATE, DATE, COPYRIGHT, (300, 300))
    assert b"A camera" not in (tmp_path / "it.jpg").read_bytes()


def test_a_webp_of_the_highest_quality_is_the_picture() -> None:
    image = NOISE.copy()
    image.putalpha(Image.fromarray(np.asarray(NOISE)[:, :, 0]))
    data = encode_picture(image, "webp", parameters=PARAMETERS, made=SourceType.EDITED, quality=100)
    with Image.open(io.BytesIO(data)) as read:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image))
    lossy = encode_picture(image, "webp", parameters=PARAMETERS, made=SourceType.EDITED, quality=99)
    with Image.open(io.BytesIO(lossy)) as read:
        assert (np.asarray(read) != np.asarray(image)).any()
