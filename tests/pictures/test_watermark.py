"""The watermark is found where it is, after what the library claims that it survives, and nowhere else."""

import io
import multiprocessing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pixrt.errors import OutputError, PackageMissing, PictureError
from pixrt.options.marking import MarkingOptions
from pixrt.pictures import watermark
from pixrt.pictures.codecs import encode_picture
from pixrt.pictures.formats import Format
from pixrt.pictures.marking import Marking
from pixrt.pictures.marks import read_marks
from pixrt.pictures.provenance import SourceType
from pixrt.pictures.watermark import ENOUGH, PAYLOAD, count_watermark, embed_watermark, room_for
from shapes import SCENE

if find_spec("blind_watermark") is None:
    pytest.skip("blind-watermark is not installed", allow_module_level=True)

CAT = Path(__file__).parent.parent.parent / "examples" / "chelsea.jpg"


def cat() -> Image.Image:
    with Image.open(CAT) as image:
        return image.convert("RGB").resize((240, 160))


def scene() -> Image.Image:
    with Image.open(SCENE) as image:
        return image.convert("RGB")


def flat(value: int) -> Image.Image:
    return Image.new("RGB", (96, 72), (value,) * 3)


def mostly_white() -> Image.Image:
    image = Image.new("RGB", (200, 200), "white")
    image.paste(cat().crop((30, 20, 150, 140)), (40, 40))
    return image


UNMARKED = {
    "a photograph": cat,
    "a drawing of 64 pixels": scene,
    "black": lambda: flat(0),
    "mostly white": mostly_white,
    "noise": lambda: Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)),
    "odd sides": lambda: cat().crop((0, 0, 133, 71)),
}


@pytest.mark.parametrize("name", UNMARKED)
@pytest.mark.parametrize(("format", "quality"), [("png", 95), ("jpeg", 90), ("webp", 90), ("avif", 90)])
def test_it_survives_encoding(name: str, format: Format, quality: int) -> None:
    image = UNMARKED[name]()
    assert count_watermark(image) < ENOUGH - 6
    data = encode_picture(
        image, format, parameters="{}", made=SourceType.EDITED, quality=quality, marking=Marking(watermark=True)
    )
    with Image.open(io.BytesIO(data)) as written:
        assert count_watermark(written) >= ENOUGH


def test_it_is_faint_and_the_same_every_time() -> None:
    image = cat()
    marked = embed_watermark(image)
    difference = np.asarray(marked).astype(int) - np.asarray(image)
    psnr = 10 * np.log10(255**2 / np.mean(difference**2))
    assert psnr > 35
    assert (difference != 0).mean() > 0.5  # everywhere: no mask is kept
    np.testing.assert_array_equal(np.asarray(embed_watermark(image)), np.asarray(marked))


def test_a_jpeg_of_less_quality_keeps_it() -> None:
    file = io.BytesIO()
    embed_watermark(cat()).save(file, "JPEG", quality=75)
    assert count_watermark(Image.open(file)) >= ENOUGH
    assert count_watermark(embed_watermark(cat()).filter(ImageFilter.GaussianBlur(6))) < ENOUGH


def test_alpha_stays() -> None:
    image = cat()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    marked = embed_watermark(image)
    assert marked.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(marked)[:, :, 3], np.asarray(image)[:, :, 3])
    assert count_watermark(marked) >= ENOUGH


def test_too_small_a_picture() -> None:
    assert room_for((56, 56)) == 49
    assert count_watermark(embed_watermark(Image.new("RGB", (56, 56), (9, 99, 200)))) >= ENOUGH
    with pytest.raises(OutputError, match=r"48 x 56 pixels have room for 42 bits, and the watermark has 48"):
        embed_watermark(Image.new("RGB", (48, 56)))
    assert count_watermark(Image.new("RGB", (48, 56))) == 0


def test_the_process_stays_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """The library's import sets how processes start, and its first mark prints a greeting."""
    before = multiprocessing.get_start_method(allow_none=True)
    keeper = multiprocessing.set_start_method
    watermark._library.cache_clear()
    embed_watermark(scene())
    assert multiprocessing.get_start_method(allow_none=True) == before
    assert multiprocessing.set_start_method == keeper
    assert capfd.readouterr().out == ""
    assert len(PAYLOAD) == 48
    assert PAYLOAD.sum() == 24


def test_reading_it_in_a_file(tmp_path: Path) -> None:
    scene().save(tmp_path / "it.png")
    assert read_marks(tmp_path / "it.png").watermark_bits is None
    assert (read_marks(tmp_path / "it.png", watermark=True).watermark_bits or 0) < ENOUGH
    (tmp_path / "cut.png").write_bytes((tmp_path / "it.png").read_bytes()[:150])
    with pytest.raises(PictureError, match="cannot be decoded"):
        read_marks(tmp_path / "cut.png")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark, "find_spec", lambda name: None)
    watermark._library.cache_clear()
    with pytest.raises(PackageMissing, match=r"blind-watermark.*pixrt\[watermark\]"):
        Marking.of(MarkingOptions(watermark=True))
