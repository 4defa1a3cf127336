"""Parity with diffusers' pipeline: same weights, same noise, latents after every step, then the picture.

`benchmarks/parity.py` does the full matrix; here every axis of it is walked once per checkpoint.
"""

from pathlib import Path
from typing import Any

import pytest

from checkpoints import DATA
from exported import Exports
from pixrt import Editor
from pixrt.options.choices import SCHEDULERS

pytestmark = pytest.mark.torch

# Each case varies one thing; together they hold every value of the matrix.
STEPS = (1, 2, 7, 20, pytest.param(50, marks=pytest.mark.slow))
SCALES = ((7.5, 1.5), (7.5, 1.0), (1.0, 1.0), (3.0, 3.0))
KINDS = ("shapes", "sd1", "sd2", "photo")


@pytest.fixture(scope="module", params=KINDS)
def sides(request: pytest.FixtureRequest, exports: Exports) -> Any:
    """diffusers' pipeline and an editor over the same weights."""
    parity = pytest.importorskip("parity")
    if request.param == "shapes":
        checkpoint, bundle = DATA / "shapes_checkpoint", Path("shapes")
    else:
        checkpoint, bundle = exports.checkpoint(request.param), exports.bundle(request.param, "fp32")
    return parity, parity.load_pipeline(checkpoint), Editor(str(bundle), backend="ort-cpu", threads=2)


def check(sides: Any, **case: Any) -> None:
    parity, pipeline, editor = sides
    side = editor.manifest.native_resolution
    given = {"steps": 4, "size": (side, side), "batch": 1, "scales": (7.5, 1.5), **case}
    found = parity.compare(pipeline, editor, parity.Case(**given))
    assert found.latents <= parity.LATENTS_TOLERANCE, (given, found)
    assert found.picture <= parity.PICTURE_TOLERANCE, (given, found)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler(sides: Any, scheduler: str) -> None:
    check(sides, scheduler=scheduler, steps=7)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("scheduler", ["euler_ancestral", "ddim"])
def test_every_number_of_steps(sides: Any, scheduler: str, steps: int) -> None:
    check(sides, scheduler=scheduler, steps=steps)


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("batch", [1, 3])
def test_scales_and_batches(sides: Any, scales: tuple[float, float], batch: int) -> None:
    check(sides, scheduler="euler_ancestral", scales=scales, batch=batch)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_size_that_is_not_square_and_does_not_halve_evenly(sides: Any, batch: int) -> None:
    _, _, editor = sides
    side, multiple = editor.manifest.native_resolution, editor.manifest.size_multiple
    check(sides, scheduler="dpmpp_2m", size=(side + 3 * multiple, side), batch=batch)


def test_ddim_with_noise(sides: Any) -> None:
    check(sides, scheduler="ddim", eta=0.6)


@pytest.mark.slow
def test_the_whole_matrix(sides: Any) -> None:
    parity, pipeline, editor = sides
    for case in parity.cases(editor.manifest.native_resolution, editor.manifest.size_multiple, parity.STEPS):
        found = parity.compare(pipeline, editor, case)
        assert found.latents <= parity.LATENTS_TOLERANCE, (case, found)
        assert found.picture <= parity.PICTURE_TOLERANCE, (case, found)


EXAMPLES = Path(__file__).parent.parent.parent / "examples"
BUILT_IN = {
    "shapes": ("shapes_checkpoint", "scene.png", "ddim", 20, (3.0, 1.2)),
    "demo": ("photo_checkpoint", "photos/astronaut.jpg", "ddim", 8, (1.0, 1.0)),
}


@pytest.mark.parametrize("bundle", BUILT_IN)
def test_edits_are_carried_out_as_well_as_diffusers_does(bundle: str) -> None:
    """The built-in models on their own worlds: the same pictures as diffusers to the grey level."""
    parity = pytest.importorskip("parity")
    from PIL import Image

    checkpoint, name, scheduler, steps, scales = BUILT_IN[bundle]
    pipeline = parity.load_pipeline(DATA / checkpoint)
    with Image.open(EXAMPLES / name) as image:
        source = image.convert("RGB")
    with Editor(bundle, backend="ort-cpu") as editor:
        texts = parity.INSTRUCTIONS if bundle == "shapes" else editor.manifest.examples[:2]
        for text in texts:
            case = parity.Case(scheduler, steps, source.size, 1, scales)
            found = parity.compare(pipeline, editor, case, images=[source], texts=[text])
            assert found.latents <= parity.LATENTS_TOLERANCE
            assert found.picture <= parity.PICTURE_TOLERANCE
