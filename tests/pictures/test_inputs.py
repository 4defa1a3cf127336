"""What is kept of a picture for its edit, and what it is told by."""

import io

import numpy as np
from PIL import Image

from pixrt import Editor
from pixrt.pictures.geometry import plan_geometry
from pixrt.pictures.inputs import prepare_masked, prepare_picture

SIZE = (40, 24)


def file_of(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", SIZE, (shade, 90, 10)).save(file, "PNG")
    return file.getvalue()


def test_an_origin_is_of_the_file_and_of_how_it_is_brought_to_size() -> None:
    small, large = (plan_geometry(*SIZE, "exact", resolution=side, multiple=8) for side in (40, 80))
    first = prepare_picture(file_of(1), SIZE, small)
    assert first.origin == prepare_picture(file_of(1), SIZE, small).origin
    mask = np.ones(SIZE[::-1], np.bool_)
    assert first.origin == prepare_masked(file_of(1), mask, SIZE, small, blur=0, inverted=False).origin
    others = [prepare_picture(file_of(2), SIZE, small), prepare_picture(file_of(1), SIZE, large)]
    assert len({each.origin for each in (first, *others)}) == 3
    assert prepare_picture(np.zeros((24, 40, 3), np.uint8), SIZE, small).origin == b""


def test_a_file_is_encoded_once_and_never_taken_for_another(editor: Editor) -> None:
    """Told apart by its bytes, and like a picture without any, whose pixels are compared."""

    def edit(shade: int, resolution: int, *, as_bytes: bool) -> np.ndarray:
        source = file_of(shade) if as_bytes else np.full((24, 40, 3), (shade, 90, 10), np.uint8)
        result = editor.edit(source, "make it blue", steps=1, seed=3, resolution=resolution)
        return np.asarray(result.image)

    hits = editor.caches["sources"].hits
    expected = [edit(shade, side, as_bytes=False) for shade in (201, 202) for side in (32, 40)]
    for _ in range(2):
        made = [edit(shade, side, as_bytes=True) for shade in (201, 202) for side in (32, 40)]
        np.testing.assert_array_equal(made, expected)
    assert editor.caches["sources"].hits - hits == 4
