"""Pictures of every kind become the sRGB pixels that a viewer would show."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from pixrt.errors import PictureError
from pixrt.pictures.geometry import plan_geometry
from pixrt.pictures.images import from_network, load_picture, measure_picture, to_network, with_alpha

COLOURS = np.array([[[220, 40, 40], [50, 80, 220]], [[40, 160, 60], [240, 210, 50]]], np.uint8)
BLOCKS = np.kron(COLOURS, np.ones((16, 16, 1), np.uint8))  # 32 x 32 pixels of four colours


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def rgb() -> Image.Image:
    return Image.fromarray(BLOCKS)


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 4),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 4),
    ],
)
def test_formats(format: str, options: dict[str, Any], tolerance: int) -> None:
    picture = load_picture(encoded(rgb(), format, **options))
    assert picture.alpha is None
    assert np.abs(np.int16(picture.rgb) - BLOCKS).max() <= tolerance


def test_sources_are_alike(tmp_path: Any) -> None:
    path = tmp_path / "it [red].png"
    rgb().save(path)
    for source in (path, str(path), path.read_bytes(), rgb(), BLOCKS, BLOCKS / 255, BLOCKS.astype(np.float32) / 255):
        np.testing.assert_array_equal(load_picture(source).rgb, BLOCKS)


def test_arrays_of_any_layout() -> None:
    np.testing.assert_array_equal(load_picture(BLOCKS[::-1, ::2]).rgb, BLOCKS[::-1, ::2])
    grey = BLOCKS[:, :, 0]
    for array in (grey, grey[:, :, None]):
        np.testing.assert_array_equal(load_picture(array).rgb, np.repeat(grey[:, :, None], 3, 2))
    frozen = BLOCKS.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(load_picture(frozen).rgb, BLOCKS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tall = rgb().resize((48, 32), Image.Resampling.NEAREST)
    data = encoded(tall, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected.size == ((48, 32) if orientation < 5 else (32, 48))
    np.testing.assert_array_equal(load_picture(data).rgb, np.asarray(expected))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa"])
def test_alpha_is_put_over_white_and_kept(mode: str) -> None:
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[:8] = 0
    alpha[8:16] = 128
    image = rgb().convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    image = image.convert("LA").convert("LA") if mode == "LA" else image.convert(mode)
    picture = load_picture(image)
    np.testing.assert_array_equal(picture.alpha, alpha)
    assert (picture.rgb[:8] == 255).all()
    solid = np.asarray(image.convert("RGBA"))[16:, :, :3]
    assert np.abs(np.int16(picture.rgb[16:]) - solid).max() <= 1
    half = (np.int16(np.asarray(image.convert("RGBA"))[8:16, :, :3]) + 255) / 2
    assert np.abs(picture.rgb[8:16] - half).max() <= 2


def test_alpha_comes_back_on_the_result() -> None:
    image = rgb().convert("RGBA")
    gradient = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    image.putalpha(Image.fromarray(gradient))
    picture = load_picture(image)
    geometry = plan_geometry(32, 32, "exact", resolution=64, multiple=8)
    result = with_alpha(from_network(to_network(picture, geometry), geometry), picture.alpha, geometry)
    assert result.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(result)[:, :, 3], gradient)


def test_palette() -> None:
    image = rgb().convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(load_picture(image).rgb, BLOCKS)
    # The first pixel's colour becomes the transparent one, as GIF and PNG know it.
    data = encoded(image, "PNG", transparency=int(np.asarray(image)[0, 0]))
    picture = load_picture(data)
    assert picture.alpha is not None
    assert (picture.alpha[:16, :16] == 0).all()
    assert (picture.alpha[16:] == 255).all()
    np.testing.assert_array_equal(picture.rgb[16:], BLOCKS[16:])


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey(mode: str) -> None:
    image = rgb().convert(mode)
    np.testing.assert_array_equal(load_picture(encoded(image, "PNG")).rgb, np.asarray(image.convert("RGB")))


def test_sixteen_bits_are_scaled() -> None:
    wide = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    picture = load_picture(encoded(Image.fromarray(wide), "PNG"))
    np.testing.assert_array_equal(picture.rgb[:, :, 0], np.rint(wide / 257).astype(np.uint8))


def test_cmyk_jpeg() -> None:
    picture = load_picture(encoded(rgb().convert("CMYK"), "JPEG", quality=98))
    assert np.abs(np.int16(picture.rgb) - BLOCKS).max() <= 12


def test_icc_profiles_are_applied() -> None:
    ours = load_picture(encoded(rgb(), "PNG", icc_profile=_linear_srgb())).rgb
    # IEC 61966-2-1: what is linear in the file gets sRGB's curve.
    linear = BLOCKS / 255
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    # littleCMS interpolates its curves in 8 bits.
    assert np.abs(ours - 255 * expected).max() <= 1.5


def _linear_srgb() -> bytes:
    """sRGB's profile with its three tone curves replaced by gamma 1: the curve tags hold one entry, 1.0."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for index in range(count):
        entry = 132 + 12 * index
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            kind = bytes(profile[offset : offset + 4])
            assert kind in (b"para", b"curv")
            if kind == b"para":  # function type 0, Y = X^g, with g = 1 as a 16.16 number
                profile[offset + 8 : offset + 10] = (0).to_bytes(2, "big")
                profile[offset + 12 : offset + 16] = (1 << 16).to_bytes(4, "big")
    return bytes(profile)


def test_a_broken_profile_is_as_good_as_none() -> None:
    np.testing.assert_array_equal(load_picture(encoded(rgb(), "PNG", icc_profile=b"nonsense" * 20)).rgb, BLOCKS)
    # A grey profile on a colour picture.
    np.testing.assert_array_equal(
        load_picture(
            encoded(rgb(), "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes())
        ).rgb.shape,
        BLOCKS.shape,
    )


WRONG_ARRAYS = {
    "no axis": np.zeros(5, np.uint8),
    "four axes": np.zeros((1, 4, 4, 3), np.uint8),
    "two channels": np.zeros((4, 4, 2), np.uint8),
    "channels first": np.zeros((3, 40, 40), np.uint8),
    "no pixels": np.zeros((0, 4, 3), np.uint8),
    "int64": np.zeros((4, 4, 3), np.int64),
    "objects": np.full((4, 4, 3), None),
    "floats to 255": np.full((4, 4, 3), 200.0),
    "negative floats": np.full((4, 4, 3), -0.1),
    "NaN": np.full((4, 4, 3), np.nan),
    "complex": np.zeros((4, 4, 3), np.complex64),
    "thin": np.zeros((4, 400, 3), np.uint8),
}


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_wrong_arrays(name: str) -> None:
    with pytest.raises(PictureError) as caught:
        load_picture(WRONG_ARRAYS[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 5, object(), [[1, 2], [3, 4]], memoryview(b"x")])
def test_what_is_no_picture(source: Any) -> None:
    with pytest.raises(PictureError):
        load_picture(source)


def test_broken_exif_is_as_good_as_none() -> None:
    for format in ("PNG", "WEBP", "JPEG"):
        data = encoded(rgb(), format, exif=b"Exif\x00\x00junk" * 3, **({"lossless": True} if format == "WEBP" else {}))
        assert load_picture(data).rgb.shape == BLOCKS.shape
        assert measure_picture(data) == (32, 32)


def test_a_transparent_grey_of_sixteen_bits() -> None:
    wide = np.full((32, 32), 30000, np.uint16)
    wide[:16] = 1000
    picture = load_picture(encoded(Image.fromarray(wide), "PNG", transparency=1000))
    assert picture.alpha is not None
    assert (picture.alpha[:16] == 0).all()
    assert (picture.alpha[16:] == 255).all()
    assert (picture.rgb[:16] == 255).all()


def test_premultiplied_grey() -> None:
    picture = load_picture(rgb().convert("LA").convert("La"))
    assert picture.alpha is not None


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_the_header_tells_the_upright_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(rgb().resize((48, 32)), "JPEG", exif=exif)
    picture = load_picture(data)
    assert measure_picture(data) == picture.rgb.shape[1::-1]


def test_the_callers_picture_stays_as_it_is() -> None:
    image = rgb()
    load_picture(image)
    assert image.info == {}
    assert image.mode == "RGB"
