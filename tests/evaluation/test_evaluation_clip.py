"""The CLIP pair: a tiny random CLIPModel, its numbers computed once more in another way, and what must not matter."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixrt.errors import CheckpointError, DataError, OptionError
from pixrt_export.evaluation.clip import CaptionedEdit, clip_curve, direction_similarity, image_similarity
from pixrt_export.evaluation.clip_data import draw_samples, read_captioned_edits
from pixrt_export.evaluation.plots import clip_plot
from pixrt_export.evaluation.statistics import Mean
from tiny_clip import make_clip

pytestmark = pytest.mark.torch
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def network(folder: Path) -> Callable[[Any], Any]:
    from pixrt_export.evaluation.clip_network import ClipNetwork

    return lambda preprocessing: ClipNetwork(folder, preprocessing)


def noise(seed: int, *size: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def make_samples(folder: Path, count: int) -> list[CaptionedEdit]:
    samples = []
    for number in range(count):
        Image.fromarray(noise(number, 40, 40 + 8 * (number % 2))).save(folder / f"{number}.png")
        texts = "make it winter", f"a photo of a lake {number}", f"a photo of a lake in winter {number}"
        samples.append(CaptionedEdit(folder / f"{number}.png", *texts))
    return samples


def inverting(guidance_scale: float, image_guidance_scale: float) -> Callable[..., list[Picture]]:
    """An edit that is the stronger the smaller the image guidance is."""
    share = 1 / image_guidance_scale

    def edit(pictures: Sequence[Picture], texts: Sequence[str]) -> list[Picture]:
        return [((1 - share) * p + share * (255 - p.astype(float))).astype(np.uint8) for p in pictures]

    return edit


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """By the law of cosines: from the lengths of the sides of the triangle."""
    a, b = math.hypot(*one), math.hypot(*other)
    c = math.hypot(*(x - y for x, y in zip(one, other, strict=True)))
    return (a * a + b * b - c * c) / (2 * a * b)


@pytest.mark.parametrize("preprocessing", ["original", "correct"])
def test_the_curve_against_transformers(
    preprocessing: str, folder: Path, network: Callable[[Any], Any], tmp_path: Path
) -> None:
    """From `CLIPModel.forward`'s own embeddings, pictures prepared here, cosines from lengths."""
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    samples = make_samples(tmp_path, 3)
    (point,) = clip_curve(inverting, samples, network(preprocessing), [1.25], batch=2)
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    kept, directed = [], []
    for sample in samples:
        assert isinstance(sample.image, Path)
        with Image.open(sample.image) as image_file:
            before = np.asarray(image_file)
        (after,) = inverting(7.5, 1.25)([before], [""])
        pixels = np.stack([prepared(picture, preprocessing) for picture in (before, after)])
        texts = tokenizer([sample.input_caption, sample.output_caption], return_tensors="pt", padding=True)
        with torch.no_grad():
            out = model(pixel_values=torch.from_numpy(pixels).float(), **texts)
        image, text = out.image_embeds.double().tolist(), out.text_embeds.double().tolist()  # of length 1
        kept.append(cosine(*image))
        directed.append(cosine(*([y - x for x, y in zip(*pair, strict=True)] for pair in (image, text))))
    assert point.image_similarity.value == pytest.approx(np.mean(kept), abs=1e-5)
    assert point.direction_similarity.value == pytest.approx(np.mean(directed), abs=1e-4)
    assert point.image_similarity.count == 3
    assert point.guidance_scale == 7.5


def prepared(picture: Picture, preprocessing: str) -> NDArray[np.float64]:
    """CLIP's input [3, 32, 32]: Keys' cubic convolution (1981) with a = -0.75, edges repeated, no antialiasing."""

    def weight(x: float, a: float = -0.75) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    def matrix(size: int) -> NDArray[np.float64]:
        rows = np.zeros((32, size))
        for i in range(32):
            centre = (i + 0.5) * size / 32 - 0.5
            for k in range(math.floor(centre) - 1, math.floor(centre) + 3):
                rows[i, min(max(k, 0), size - 1)] += weight(centre - k)
        return rows

    values = picture / 127.5 - 1 if preprocessing == "original" else picture / 255
    down, across = matrix(picture.shape[0]), matrix(picture.shape[1])
    resized = np.einsum("yh,hwc,xw->cyx", down, values, across)
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return (resized - np.array(mean)[:, None, None]) / np.array(deviation)[:, None, None]


def test_the_two_preprocessings_differ_by_the_range_alone(network: Callable[[Any], Any]) -> None:
    from pixrt_export.evaluation.clip_network import DEVIATION, MEAN, prepare

    picture = noise(0, 50, 70)
    original, correct = (prepare(picture, 32, how)[0].double().numpy() for how in ("original", "correct"))  # type: ignore[arg-type]
    mean, deviation = np.array(MEAN)[:, None, None], np.array(DEVIATION)[:, None, None]
    np.testing.assert_allclose(2 * (correct * deviation + mean) - 1, original * deviation + mean, atol=1e-5)
    one, other = (network(how).pictures([picture]) for how in ("original", "correct"))
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(OptionError, match="original or correct"):
        network("wrong")


def test_correct_is_what_transformers_prepares(folder: Path) -> None:
    from transformers import CLIPImageProcessor

    from pixrt_export.evaluation.clip_network import prepare

    picture = noise(1, 32, 32)
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    expected = processor(picture, return_tensors="np").pixel_values
    np.testing.assert_allclose(prepare(picture, 32, "correct"), expected, atol=1e-5)


def test_batches_and_order_do_not_matter(network: Callable[[Any], Any], tmp_path: Path) -> None:
    samples, told = make_samples(tmp_path, 5), []
    correct = network("correct")
    one = clip_curve(inverting, samples, correct, [1.0, 1.5], batch=1)
    other = clip_curve(
        inverting,
        samples[::-1],
        correct,
        [1.0, 1.5],
        batch=4,
        on_progress=lambda done, total: told.append((done, total)),
    )
    for a, b in zip(one, other, strict=True):
        assert a.image_similarity.value == pytest.approx(b.image_similarity.value, abs=1e-6)
        assert a.direction_similarity.value == pytest.approx(b.direction_similarity.value, abs=1e-5)
    assert told[0] == (0, 10)
    assert told[-1] == (10, 10)
    assert one[0].image_similarity.value < one[1].image_similarity.value  # the weaker edit keeps more
    assert clip_plot(one, title="two points").size[0] > 500
    with pytest.raises(OptionError):
        clip_curve(inverting, samples, correct, [])


def test_an_edit_that_does_nothing(network: Callable[[Any], Any], tmp_path: Path) -> None:
    (point,) = clip_curve(
        lambda *_: lambda pictures, texts: pictures, make_samples(tmp_path, 2), network("correct"), [1]
    )
    assert point.image_similarity.value == pytest.approx(1)
    assert point.direction_similarity.value == 0


def test_the_similarities() -> None:
    rng = np.random.default_rng(0)
    before, after, text_before, text_after = rng.standard_normal((4, 6, 8))
    direction = direction_similarity(before, after, text_before, text_after)
    assert np.abs(direction).max() <= 1
    # Lengths do not matter, and going back is as going there.
    np.testing.assert_allclose(direction_similarity(3 * before, after / 7, text_before, 2 * text_after), direction)
    np.testing.assert_allclose(direction_similarity(after, before, text_after, text_before), direction)
    np.testing.assert_allclose(direction_similarity(after, before, text_before, text_after), -direction)
    np.testing.assert_allclose(image_similarity(before, after), image_similarity(5 * after, before))
    # A picture that goes where its caption goes, in the same space.
    np.testing.assert_allclose(direction_similarity(before, after, before, after), 1)
    unit = [row / np.linalg.norm(row) for row in (before[0], after[0], text_before[0], text_after[0])]
    assert direction[0] == pytest.approx(cosine(unit[1] - unit[0], unit[3] - unit[2]))


def test_long_captions_are_cut(network: Callable[[Any], Any]) -> None:
    words = " ".join(["winter"] * 200)
    one, other = network("correct").texts([words, words + " and summer"])
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_checkpoints_that_are_refused(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from pixrt_export.evaluation.clip_network import ClipNetwork

    def copy(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for path in folder.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    pickled = copy("pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"a pickle \(pytorch_model.bin\).*safe_serialization"):
        ClipNetwork(pickled, "correct")
    (pickled / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"no model.safetensors"):
        ClipNetwork(pickled, "correct")
    lacking = copy("lacking")
    weights = load_file(lacking / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights, such as visual_projection.weight"):
        ClipNetwork(lacking, "correct")
    broken = copy("broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ClipNetwork(broken, "correct")
    other = copy("other")
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="'bert', not clip"):
        ClipNetwork(other, "correct")
    with pytest.raises(CheckpointError, match=r"no config.json"):
        ClipNetwork(tmp_path, "correct")


ROW = {"image": "a.png", "instruction": "make it blue", "input_caption": "a sea", "output_caption": "a blue sea"}


def test_reading_a_table(tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n\n{json.dumps({**ROW, 'image': 'b/c.png', 'more': 1})}\n")
    edits = read_captioned_edits(path)
    assert edits[0] == CaptionedEdit(tmp_path / "a.png", "make it blue", "a sea", "a blue sea")
    assert [edit.image for edit in edits] == [tmp_path / "a.png", tmp_path / "b" / "c.png"]
    assert sorted(draw_samples(edits * 5, 10), key=str) == sorted(edits * 5, key=str)
    assert draw_samples(edits * 5, 4, seed=1) == draw_samples(edits * 5, 4, seed=1)
    with pytest.raises(OptionError, match="3 samples of 2"):
        draw_samples(edits, 3)


@pytest.mark.parametrize("text", ["", "\n", "{", "[]", '{"image": "a.png"}', json.dumps({**ROW, "image": 3})])
def test_tables_that_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "edits.jsonl"
    path.write_text(text)
    with pytest.raises(DataError):
        read_captioned_edits(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_captioned_edits(tmp_path / "missing.jsonl")


def test_reading_the_originals_layout(tmp_path: Path) -> None:
    for name, texts in {"one": {"edit": "e", "input": "i", "output": "o"}, "two": {"edit": "e"}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompt.json").write_text(json.dumps(texts))
    (tmp_path / "seeds.json").write_text(json.dumps([["one", [7, 8]], ["two", [9]]]))
    edits = read_captioned_edits(tmp_path)
    images = [tmp_path / "one" / "7_0.jpg", tmp_path / "one" / "8_0.jpg"]
    assert edits == [CaptionedEdit(image, "e", "i", "o") for image in images]
    (tmp_path / "seeds.json").write_text(json.dumps([["two", [9]]]))
    with pytest.raises(DataError, match="no picture with a caption"):
        read_captioned_edits(tmp_path)


def test_means_of_one_sample(network: Callable[[Any], Any], tmp_path: Path) -> None:
    (point,) = clip_curve(inverting, make_samples(tmp_path, 1), network("correct"), [1.2])
    assert point.image_similarity == Mean(point.image_similarity.value, None, 1)
    assert point.facts()["image_similarity"]["low"] is None
    assert clip_plot([point], title="one").size[0] > 500
