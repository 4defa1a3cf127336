"""Files in and out: only what is safe is opened, what is written is whole and carries its parameters."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixrt.errors import OptionError, OutputError, PictureError, PictureTooLarge, PictureUnreadable
from pixrt.pictures.codecs import encode_picture, read_parameters, save_picture
from pixrt.pictures.formats import MEDIA_TYPES, WRITABLE_SUFFIXES, Format, media_type_of
from pixrt.pictures.images import load_picture
from pixrt.pictures.marks import read_marks
from pixrt.pictures.provenance import SourceType

NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
PARAMETERS = {"pixrt": "0", "instruction": "make it 冬 ❄ \"'\\ \n", "seed": 2**62 + 1, "guidance_interval": [0.0, 0.8]}


def encoded(format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, format, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size, with a few bytes of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def animation(format: str) -> bytes:
    frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:], duration=50)
    return buffer.getvalue()


MALFORMED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a picture"),
    "text": (lambda: b"hello, world" * 100, "not a picture"),
    "html": (lambda: b"<!doctype html><html><body>404</body></html>", "is a web page, which is not read"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "is SVG, which is not read"),
    "pdf": (lambda: b"%PDF-1.7\n%%EOF", "is a PDF, which is not read"),
    "zip": (lambda: b"PK\x03\x04" + bytes(50), "is an archive or a document, which is not read"),
    "ppm": (lambda: encoded("PPM"), "is Netpbm, which is not read"),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is PostScript, which is not read"),
    "png signature alone": (lambda: b"\x89PNG\r\n\x1a\n", "not a picture"),
    "png cut in its header": (lambda: encoded("PNG")[:20], "cannot be"),
    "png cut in its data": (lambda: encoded("PNG")[:800], "cannot be decoded"),
    "png with a wrong checksum": (lambda: encoded("PNG").replace(b"IDAT", b"IDAT\xff", 1), "cannot be decoded"),
    "png with too little data": (lambda: png_of_size(64, 64), "cannot be decoded"),
    "png of no width": (lambda: png_of_size(0, 64), ""),
    "png of 4 billion squared": (lambda: png_of_size(2**31 - 1, 2**31 - 1), "pixels"),
    "png of 30 megapixels": (lambda: png_of_size(6000, 5000), "30.0 megapixels"),
    "png of 100 megapixels": (lambda: png_of_size(10_000, 10_000), "pixels"),
    "png one pixel high": (lambda: png_of_size(900, 1), "8 times"),
    "jpeg signature alone": (lambda: b"\xff\xd8\xff", "ends before its pixels do"),
    "jpeg cut": (lambda: encoded("JPEG")[:900], "some are missing"),
    "webp cut": (lambda: encoded("WEBP")[:100], "cannot be"),
    "webp header alone": (lambda: b"RIFF\x10\0\0\0WEBPVP8 ", "cannot be"),
    "avif cut": (lambda: encoded("AVIF")[:300], "not a picture"),
    "animated png": (lambda: animation("PNG"), "animation of 2 frames"),
    "animated webp": (lambda: animation("WEBP"), "animation of 2 frames"),
    "animated gif": (lambda: animation("GIF"), "animation of 2 frames"),
    "tiff of two pages": (lambda: animation("TIFF"), "a file of 2 pages"),
    "heic": (lambda: b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
    "jpeg xl": (lambda: b"\xff\x0a" + bytes(50), "is JPEG XL, which is not read"),
    "photoshop": (lambda: b"8BPS" + bytes(50), "is a Photoshop document, which is not read"),
    "film": (lambda: b"\0\0\0\x18ftypmp42" + bytes(50), "is a film, which is not read"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("from_file", [True, False])
def test_malformed_pictures(name: str, from_file: bool, tmp_path: Path) -> None:
    make, words = MALFORMED[name]
    path = tmp_path / "bad.png"
    path.write_bytes(make())
    with pytest.raises(PictureError) as caught:
        load_picture(path if from_file else make())
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 500
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", PictureUnreadable),
        (b"GIF89a" + bytes(100), PictureUnreadable),
        (b"/etc/passwd", PictureUnreadable),
        (png_of_size(6000, 5000), PictureTooLarge),
        (png_of_size(60_000, 50_000), PictureTooLarge),
        (png_of_size(900, 100), PictureError),
        (encoded("PNG")[:800], PictureError),
        (animation("PNG"), PictureError),
    ],
)
def test_what_is_wrong_has_a_class(data: bytes, kind: type[PictureError]) -> None:
    with pytest.raises(PictureError) as caught:
        load_picture(data)
    assert type(caught.value) is kind


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="there is no file"):
        load_picture(tmp_path / "missing.png")
    with pytest.raises(PictureError, match="is a folder"):
        load_picture(tmp_path)
    with pytest.raises(PictureError):
        load_picture(str(tmp_path / "x\0y.png"))
    with pytest.raises(PictureError):
        load_picture("n" * 5000)
    with pytest.raises(PictureError):
        load_picture("")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="not a regular file"):
        load_picture(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", [*WRITABLE_SUFFIXES, ".PNG", ".JPG"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_parameters_travel_in_the_picture(suffix: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"it{suffix}"
    image = Image.fromarray(NOISE).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(NOISE[:, :, 0]))
    save_picture(image, path, parameters=json.dumps(PARAMETERS, ensure_ascii=False), made=SourceType.EDITED)
    assert read_parameters(path) == PARAMETERS
    with Image.open(path) as written:
        assert written.size == image.size
        assert written.mode == ("RGB" if suffix.lower() in (".jpg", ".jpeg") else mode)
        if suffix.lower() == ".png":
            np.testing.assert_array_equal(np.asarray(written), np.asarray(image))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_parameters_too_long_for_exif(tmp_path: Path) -> None:
    text = json.dumps({"pixrt": "0", "instruction": "x" * 70_000})
    with pytest.raises(OutputError, match="more than the 65000"):
        save_picture(Image.fromarray(NOISE), tmp_path / "it.jpg", parameters=text, made=SourceType.EDITED)
    save_picture(Image.fromarray(NOISE), tmp_path / "it.png", parameters=text, made=SourceType.EDITED)
    assert len(read_parameters(tmp_path / "it.png")["instruction"]) == 70_000
    assert not (tmp_path / "it.jpg").exists()


def test_the_longest_parameters_leave_room_for_the_mark(tmp_path: Path) -> None:
    """EXIF and XMP are segments of their own, of 64 KiB each."""
    text = json.dumps({"pixrt": "0", "instruction": ""})
    text = json.dumps({"pixrt": "0", "instruction": "x" * (65_000 - len(text))})
    for suffix in WRITABLE_SUFFIXES:
        save_picture(Image.fromarray(NOISE), tmp_path / f"it{suffix}", parameters=text, made=SourceType.EDITED)
        assert read_parameters(tmp_path / f"it{suffix}") == json.loads(text)
        assert read_marks(tmp_path / f"it{suffix}").source_type is SourceType.EDITED


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_bytes_are_what_is_saved(format: Format, tmp_path: Path) -> None:
    options: dict[str, Any] = {"parameters": json.dumps(PARAMETERS), "made": SourceType.GENERATED, "quality": 40}
    data = encode_picture(Image.fromarray(NOISE), format, **options)
    save_picture(Image.fromarray(NOISE), tmp_path / f"it.{format}", **options)
    assert (tmp_path / f"it.{format}").read_bytes() == data
    assert media_type_of(data) == MEDIA_TYPES[format]
    with Image.open(io.BytesIO(data)) as image:
        assert image.get_format_mimetype() == MEDIA_TYPES[format]  # type: ignore[attr-defined]
    better = encode_picture(Image.fromarray(NOISE), format, **(options | {"quality": 95}))
    assert (len(better) > len(data)) == (format != "png")


def test_wrong_formats_and_qualities() -> None:
    options: dict[str, Any] = {"parameters": "{}", "made": SourceType.EDITED}
    for format in ("gif", "PNG", "jpg", "", None):
        with pytest.raises(OptionError, match="Choose one of png, jpeg, webp, avif"):
            encode_picture(Image.fromarray(NOISE), format, **options)  # type: ignore[arg-type]
    for quality in (0, 101, 9.5, "90"):
        with pytest.raises(OptionError, match="from 1 to 100"):
            encode_picture(Image.fromarray(NOISE), "jpeg", quality=quality, **options)
    with pytest.raises(OutputError, match="cannot be encoded as webp"):
        encode_picture(Image.new("RGB", (1, 16_384)), "webp", **options)


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "{}", "null", '{"instruction": "no version"}'])
def test_parameters_of_somebody_else(text: str, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("pixrt", text)
    Image.fromarray(NOISE).save(tmp_path / "it.png", pnginfo=info)
    with pytest.raises(PictureError, match="cannot be read"):
        read_parameters(tmp_path / "it.png")


def test_a_picture_without_parameters(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "it.jpg")
    with pytest.raises(PictureError, match="holds no parameters"):
        read_parameters(tmp_path / "it.jpg")


@pytest.mark.parametrize("suffix", [".gif", ".bmp", "", ".tif", ".png.exe"])
def test_suffixes_that_are_not_written(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        save_picture(Image.fromarray(NOISE), tmp_path / f"it{suffix}", parameters="{}", made=SourceType.EDITED)
    assert not list(tmp_path.iterdir())


def test_the_folder_is_made(tmp_path: Path) -> None:
    save_picture(Image.fromarray(NOISE), tmp_path / "no" / "it.png", parameters="{}", made=SourceType.EDITED)
    assert (tmp_path / "no" / "it.png").is_file()
