"""Parity of the other tasks with diffusers' pipelines: same weights, same noise, latents after every step, the picture.

`benchmarks/task_parity.py` does the full matrix; here every axis of it is walked once per checkpoint and task.
"""

from typing import Any

import pytest

from exported import Exports
from pixrt import Editor
from pixrt.options.choices import SCHEDULERS

pytestmark = pytest.mark.torch

KINDS = [
    ("text_to_image", "generate"),
    ("sd1", "generate"),
    ("sd1", "img2img"),
    ("sd1", "inpaint"),
    ("text_to_image", "img2img"),
    ("text_to_image", "inpaint"),
    ("inpainting", "inpaint"),
]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def sides(request: pytest.FixtureRequest, exports: Exports) -> Any:
    """diffusers' parts, an editor over the same weights, and the task."""
    parity, task_parity = pytest.importorskip("parity"), pytest.importorskip("task_parity")
    kind, task = request.param
    components = parity.load_pipeline(exports.checkpoint(kind)).components
    return task_parity, components, Editor(exports.bundle(kind, "fp32"), backend="ort-cpu", threads=2), task


def check(sides: Any, **case: Any) -> None:
    parity = pytest.importorskip("parity")
    task_parity, components, editor, task = sides
    side, multiple = editor.manifest.native_resolution, editor.manifest.size_multiple
    given = {"scheduler": "euler_ancestral", "steps": 5, "size": (side + multiple, side), **case}
    found = task_parity.compare(components, editor, task_parity.TaskCase(task, **given))
    assert found.latents <= parity.LATENTS_TOLERANCE, (given, found)
    assert found.picture <= parity.PICTURE_TOLERANCE, (given, found)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler(sides: Any, scheduler: str) -> None:
    """Begun in the middle, where solvers with memory begin anew; text-to-image has no middle."""
    check(sides, scheduler=scheduler, steps=7, strength=1.0 if sides[-1] == "generate" else 0.6)


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m"])
def test_every_strength(sides: Any, scheduler: str, strength: float) -> None:
    if sides[-1] == "generate":
        pytest.skip("text-to-image has no strength")
    check(sides, scheduler=scheduler, strength=strength)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_batches_and_scales(sides: Any, batch: int, scale: float) -> None:
    check(sides, batch=batch, scale=scale)


@pytest.mark.slow
def test_the_whole_matrix(sides: Any) -> None:
    parity = pytest.importorskip("parity")
    task_parity, components, editor, task = sides
    side, multiple = editor.manifest.native_resolution, editor.manifest.size_multiple
    for case in task_parity.cases((task,), side, multiple):
        found = task_parity.compare(components, editor, case)
        assert found.latents <= parity.LATENTS_TOLERANCE, (case, found)
        assert found.picture <= parity.PICTURE_TOLERANCE, (case, found)
