"""What AUTOMATIC1111 writes into pictures, in pixrt's words."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pixrt.errors import ParametersMissing, PictureError
from pixrt.options.choices import SCHEDULERS
from pixrt.options.stored import options_from, unknown_parameters
from pixrt.options.tasks import TASK_OPTIONS, EditOptions
from pixrt.pictures.a1111 import read_a1111, write_a1111
from pixrt.pictures.codecs import encode_picture, read_parameters
from pixrt.pictures.marking import Marking
from pixrt.pictures.provenance import SourceType

TEXT = (
    "a castle, <lora:ink:0.5> on a hill,\nat night <lora:wash>\n"
    "Negative prompt: people,\ncars\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 965400086, Size: 512x768,"
    ' Model hash: 6ce0161689, Model: v1-5-pruned, Clip skip: 2, Lora hashes: "ink: 1a, wash: 2b",'
    ' Wildcard prompt: "a \\"castle\\", on __hill__", Version: v1.9.4'
)
EDIT = "make it blue\nSteps: 10, Sampler: Euler a, CFG scale: 7, Image CFG scale: 1.5, Seed: 7, Size: 512x384"
OLD = "x\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x512, Denoising strength: 0.6"
MASKED = f"{OLD}, Mask blur: 4"


def test_a_picture_from_text() -> None:
    assert read_a1111(TEXT) == {
        "task": "generate",
        "model": "v1-5-pruned",
        "loras": [{"name": "ink", "scale": 0.5}, {"name": "wash", "scale": 1}],
        "instruction": "a castle,  on a hill,\nat night",
        "negative_prompt": "people,\ncars",
        "steps": 20,
        "guidance_scale": 7.5,
        "seed": 965400086,
        "scheduler": "dpmpp_2m_karras",
        "width": 512,
        "height": 768,
        "a1111": {"Clip skip": "2", "Wildcard prompt": 'a "castle", on __hill__'},
    }


def test_an_edit() -> None:
    found = read_a1111(EDIT)
    assert found == {
        "task": "edit",
        "model": "",
        "instruction": "make it blue",
        "steps": 10,
        "guidance_scale": 7,
        "image_guidance_scale": 1.5,
        "seed": 7,
        "scheduler": "euler_ancestral",
        "resolution": 512,
        "a1111": {},
    }
    text, options = options_from(found, "it", EditOptions)
    assert (text, options.guidance_scale, options.image_guidance_scale) == ("make it blue", 7.0, 1.5)
    assert unknown_parameters(found) == []


@pytest.mark.parametrize(
    ("text", "task", "strength"),
    [
        (OLD, "img2img", 0.6),
        (MASKED, "inpaint", 0.6),
        (f"{OLD}, Hires upscale: 2", "generate", None),
        (OLD.replace(", Denoising strength: 0.6", ""), "generate", None),
    ],
)
def test_which_task_it_was(text: str, task: str, strength: float | None) -> None:
    found: Any = read_a1111(text)
    assert (found["task"], found.get("strength"), found["scheduler"]) == (task, strength, "dpmpp_2m_karras")
    options_from(found, "it", TASK_OPTIONS[task])


@pytest.mark.parametrize(
    ("said", "scheduler"),
    [
        ("Sampler: DPM++ 2M, Schedule type: Uniform", "dpmpp_2m"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m_karras"),
        ("Sampler: euler A", "euler_ancestral"),
        ("Sampler: DDIM", "ddim"),
        ("Sampler: dpmpp_2m_sde", "dpmpp_2m_sde"),
        ("Sampler: DPM++ 3M SDE, Schedule type: Exponential", None),
        ("Sampler: Euler, Schedule type: Exponential", None),
    ],
)
def test_samplers(said: str, scheduler: str | None) -> None:
    found: Any = read_a1111(f"x\nSteps: 20, {said}, Seed: 3")
    assert found.get("scheduler") == scheduler
    told = [] if scheduler else sorted(each.partition(":")[0] for each in said.split(", "))
    assert unknown_parameters(found) == told  # what is not mapped is told


def test_a_prompt_that_begins_with_its_settings() -> None:
    found: Any = read_a1111("Steps: 5, Sampler: Euler, Seed: 1")
    assert (found["instruction"], found["steps"]) == ("", 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "a castle",
        "Steps: 20",
        "Steps: 20, Seed: 5",
        "a: b, c: d, e: f",
        "{}",
        "x\nSeed: 1, Sampler: a, B: c",
    ],
)
def test_texts_that_are_not_its(text: str) -> None:
    assert read_a1111(text) is None


@pytest.mark.parametrize("part", ["a", '"', "\\", ",", ":", "a: ,", '"\\', "<lora:", "<lora:a:", "\n", "Steps: 1,"])
def test_long_texts_take_no_time(part: str) -> None:
    read_a1111(part * 1_000_000)
    read_a1111(f"{part * 50_000}\nSteps: 1, Seed: 2, Sampler: {part * 50_000}")


def png(text: str, key: str = "parameters") -> bytes:
    info, file = PngInfo(), io.BytesIO()
    info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def with_comment(format: str, comment: bytes) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif.get_ifd(0x8769)[0x9286] = comment
    Image.new("RGB", (8, 8)).save(file, format, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "PNG"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"ASCII\0\0\0" + TEXT.encode(),
        bytes(8) + TEXT.encode(),
    ],
)
def test_where_it_stands_in_files(format: str, comment: bytes) -> None:
    assert read_parameters(with_comment(format, comment)) == read_a1111(TEXT)


def test_in_a_png(tmp_path: Path) -> None:
    assert read_parameters(png(TEXT)) == read_a1111(TEXT)
    (tmp_path / "it.png").write_bytes(png(TEXT))
    assert read_parameters(tmp_path / "it.png") == read_a1111(TEXT)


def test_pixrt_s_own_come_first() -> None:
    info, file = PngInfo(), io.BytesIO()
    info.add_itxt("parameters", TEXT)
    info.add_itxt("pixrt", '{"pixrt": "0", "seed": 4}')
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    assert read_parameters(file.getvalue()) == {"pixrt": "0", "seed": 4}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_is_written_beside_pixrt_s_own(scheduler: str) -> None:
    """Letter for letter in A1111's form, and what is read back is what was said."""
    said = {
        "pixrt": "0.1.0",
        "task": "edit",
        "model": "ip2p, the first",
        "model_sha256": "ab" * 32,
        "loras": [{"name": "ink.safetensors", "scale": 0.5, "sha256": "0"}],
        "instruction": "make it (blue:1.2),\nand calm",
        "negative_prompt": "people, cars",
        "steps": 12,
        "scheduler": scheduler,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.25,
        "seed": 2**63 - 1,
    }
    text = write_a1111(said, (512, 384))
    if scheduler == "dpmpp_2m":
        assert text == (
            "make it (blue:1.2),\nand calm <lora:ink:0.5>\nNegative prompt: people, cars\n"
            "Steps: 12, Sampler: DPM++ 2M, Schedule type: Uniform, CFG scale: 7.5, Image CFG scale: 1.25,"
            f' Seed: {2**63 - 1}, Size: 512x384, Model hash: ababababab, Model: "ip2p, the first",'
            " Version: pixrt 0.1.0"
        )
    back = read_a1111(text)
    assert back is not None
    for name in ("task", "instruction", "negative_prompt", "steps", "guidance_scale", "image_guidance_scale", "seed"):
        assert back[name] == said[name]
    assert back["loras"] == [{"name": "ink", "scale": 0.5}]
    assert back["scheduler"] == scheduler


def test_what_is_none_of_both() -> None:
    with pytest.raises(PictureError, match="the parameters in the picture cannot be read"):
        read_parameters(png("positive: a castle"))
    for comment in (b"JIS\0\0\0\0\0x", b"", b"short"):
        with pytest.raises(ParametersMissing, match="holds no parameters"):
            read_parameters(with_comment("JPEG", comment))
    with pytest.raises(ParametersMissing):
        read_parameters(png(TEXT, key="comment"))


def test_half_of_a_character() -> None:
    found = read_parameters(with_comment("JPEG", b"UNICODE\0" + f"x\n{EDIT}".encode("utf-16-be") + b"\xd8\x00"))
    assert found["steps"] == 10


@pytest.mark.parametrize("text", [TEXT, EDIT, OLD, MASKED])
def test_written_as_a1111_does(text: str) -> None:
    """What A1111 wrote says the same once pixrt has written it."""
    found: Any = read_a1111(text)
    size = found.get("width", 512), found.get("height", 384)
    again: Any = read_a1111(write_a1111(found, size))
    said = {name: value for name, value in found.items() if name != "a1111"}
    assert {name: value for name, value in again.items() if name != "a1111"} == said


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_is_read_back(scheduler: str) -> None:
    parameters = {"instruction": "x", "steps": 4, "guidance_scale": 7.5, "seed": 1, "scheduler": scheduler}
    found: Any = read_a1111(write_a1111(parameters, (8, 8)))
    assert (found["scheduler"], found["guidance_scale"]) == (scheduler, 7.5)


def test_the_line_of_a_picture() -> None:
    parameters = {"pixrt": "1", "model": 'a, "b"', "instruction": "it", "steps": 4, "seed": 1, "scheduler": "euler"}
    written = write_a1111(parameters | {"model_sha256": "0123456789ab", "strength": 0.00005}, (16, 8))
    assert written.splitlines()[1] == (
        'Steps: 4, Sampler: Euler, Seed: 1, Size: 16x8, Model hash: 0123456789, Model: "a, \\"b\\"",'
        " Denoising strength: 0.00005, Version: pixrt 1"
    )


def test_a_png_has_both() -> None:
    parameters = '{"pixrt": "0", "instruction": "it", "steps": 4, "seed": 4}'
    picture = Image.new("RGB", (16, 8))
    data = encode_picture(picture, "png", parameters=parameters, made=SourceType.EDITED)
    assert Image.open(io.BytesIO(data)).info["parameters"] == "it\nSteps: 4, Seed: 4, Size: 16x8, Version: pixrt 0"
    assert read_parameters(data)["seed"] == 4
    bare = encode_picture(
        picture, "png", parameters=parameters, made=SourceType.EDITED, marking=Marking(metadata=False)
    )
    assert "parameters" not in Image.open(io.BytesIO(bare)).info
