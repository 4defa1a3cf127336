"""A result as a file's bytes: the same as what is saved, marked as what the task makes."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from pixrt import Editor, EditResult, OptionError, read_parameters
from pixrt.pictures.provenance import SourceType, read_source_type


def source_type_of(result: EditResult) -> SourceType | None:
    with Image.open(io.BytesIO(result.encode("png"))) as image:
        return read_source_type(image.info["xmp"])


def test_bytes_and_files_are_the_same(editor: Editor, scene: Image.Image, tmp_path: Path) -> None:
    result = editor.edit(scene, "invert the colors", steps=1, seed=3)
    for format in ("png", "jpeg", "webp", "avif"):
        path = tmp_path / f"it.{format}"
        result.save(path, quality=70)
        assert path.read_bytes() == result.encode(format, quality=70)  # type: ignore[arg-type]
        assert read_parameters(path) == json.loads(json.dumps(result.parameters))
    with pytest.raises(OptionError, match="format is 'bmp'"):
        result.encode("bmp")  # type: ignore[arg-type]


def test_every_task_says_what_it_made(editor: Editor, scene: Image.Image) -> None:
    edited = editor.edit(scene, "invert the colors", steps=1)
    assert source_type_of(edited) is SourceType.EDITED
    assert source_type_of(editor.style(scene, scene, steps=2)) is SourceType.EDITED
    drawn = editor.generate("a red circle", steps=1)
    assert source_type_of(drawn) is SourceType.GENERATED
    # An edit of what was generated has two hands in it.
    assert source_type_of(editor.edit(drawn.image, "make it darker", steps=1)) is SourceType.EDITED
