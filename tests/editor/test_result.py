"""A result as a file's bytes: the same as what is saved, marked as what the task makes."""

import inspect
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from pixrt import Editor, EditResult, OptionError, OutputError, read_parameters
from pixrt.options.fields import option_fields, rule_of
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.pictures.marking import Marking
from pixrt.pictures.provenance import SourceType, read_source_type


def source_type_of(result: EditResult) -> SourceType | None:
    with Image.open(io.BytesIO(result.to_bytes("png"))) as image:
        return read_source_type(image.info["xmp"])


def test_bytes_and_files_are_the_same(editor: Editor, scene: Image.Image, tmp_path: Path) -> None:
    result = editor.edit(scene, "invert the colors", steps=1, seed=3)
    for format in ("png", "jpeg", "webp", "avif"):
        path = tmp_path / f"it.{format}"
        result.save(path, quality=70)
        assert path.read_bytes() == result.to_bytes(format, quality=70)  # type: ignore[arg-type]
        assert read_parameters(path) == json.loads(json.dumps(result.parameters))
    with pytest.raises(OptionError, match="format is 'bmp'"):
        result.to_bytes("bmp")  # type: ignore[arg-type]


def test_a_png_has_the_parameters_of_a1111_too(editor: Editor, scene: Image.Image) -> None:
    result = editor.edit(scene, "invert the colors", steps=1, seed=3)
    with Image.open(io.BytesIO(result.to_bytes("png"))) as image:
        assert image.info["parameters"].startswith("invert the colors\nSteps: 1, Sampler: DPM++ 2M, ")
        assert json.loads(image.info["pixrt"]) == json.loads(json.dumps(result.parameters))
    with Image.open(io.BytesIO(result.to_bytes("png", marking=Marking(metadata=False)))) as image:
        assert not {"parameters", "pixrt"} & image.info.keys()


def test_open_files(editor: Editor, scene: Image.Image, tmp_path: Path) -> None:
    """By format, or by the name that a file has; nothing is written for a format that is none."""
    result = editor.edit(scene, "invert the colors", steps=1, seed=3)
    memory = io.BytesIO()
    result.save(memory, format="webp", quality=80)
    assert memory.getvalue() == result.to_bytes("webp", quality=80)
    with (tmp_path / "it.jpg").open("wb") as file:
        result.save(file)
    assert (tmp_path / "it.jpg").read_bytes() == result.to_bytes("jpeg")
    with pytest.raises(OutputError, match="has the suffix ''"):
        result.save(io.BytesIO())
    with pytest.raises(OptionError, match=r"format is webp, and it\.png is a file of png"):
        result.save(tmp_path / "it.png", format="webp")
    assert not (tmp_path / "it.png").exists()


def test_in_a_notebook_it_is_a_picture_and_in_a_log_a_line(editor: Editor, scene: Image.Image) -> None:
    result = editor.edit(scene, "invert the colors " + "x" * 500, steps=1, seed=3)
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert list(shown.convert("RGB").get_flattened_data()) == list(result.image.get_flattened_data())
    said = repr(result)
    assert said.startswith("EditResult(edit 'invert the colors xxx")
    assert f"{result.image.width} x {result.image.height}, seed 3, " in said
    assert len(said) < 160


@pytest.mark.parametrize("task", TASK_OPTIONS)
def test_help_lists_every_parameter(task: str) -> None:
    text = inspect.getdoc(getattr(Editor, task))
    assert text is not None
    for name, field in option_fields(TASK_OPTIONS[task]).items():
        assert f"\n    {name}: {rule_of(field).help}" in text


def test_every_task_says_what_it_made(editor: Editor, scene: Image.Image) -> None:
    edited = editor.edit(scene, "invert the colors", steps=1)
    assert source_type_of(edited) is SourceType.EDITED
    assert source_type_of(editor.style(scene, scene, steps=2)) is SourceType.EDITED
    drawn = editor.generate("a red circle", steps=1)
    assert source_type_of(drawn) is SourceType.GENERATED
    # An edit of what was generated has two hands in it.
    assert source_type_of(editor.edit(drawn.image, "make it darker", steps=1)) is SourceType.EDITED
