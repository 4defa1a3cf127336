"""One engine with several profiles: several pictures on what `pixrt build` makes by default, and which profile runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exported import Exports
from simulated_cuda import SimulatedDriver
from simulated_edits import SIZE, assert_close, edit, picture

pytestmark = [pytest.mark.simulated, pytest.mark.torch]


@pytest.fixture
def selected(driver: SimulatedDriver) -> Iterator[list[tuple[str, int]]]:
    import simulated_tensorrt

    simulated_tensorrt.selected.clear()
    yield simulated_tensorrt.selected
    simulated_tensorrt.selected.clear()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("batch", [(), (1, 1)])
def test_several_pictures_on_default_engines(
    driver: SimulatedDriver, exports: Exports, tmp_path: Path, fused: bool, batch: Any
) -> None:
    """The editor groups four. Engines take as many by default; those that take one make them one after the other."""
    from pixrt import Editor
    from pixrt.bundles.store import open_bundle
    from simulated_engines import with_engines

    given = {"batch": batch} if batch else {}
    folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "b", **given)
    native = open_bundle(folder, verify=False).manifest.native_resolution
    pictures = [picture(40 * n, native, native) for n in range(1, 5)]
    asked: dict[str, Any] = {"seed": [1, 2, 3, 4], "resolution": native, "steps": 2}
    with (
        Editor(folder, backend="tensorrt", fused_step=fused) as editor,
        Editor(folder, backend="ort-cpu", threads=1, fused_step=fused) as plain,
    ):
        for _ in range(2):  # as it is, captured
            assert_close(edit(editor, pictures, ["x"] * 4, **asked), edit(plain, pictures, ["x"] * 4, **asked))


def test_a_context_selects_the_profile_of_its_shapes(
    selected: list[tuple[str, int]], driver: SimulatedDriver, exports: Exports, tmp_path: Path
) -> None:
    """One plan of each network; a static profile before the dynamic one, which takes them too."""
    from pixrt import Editor
    from pixrt.bundles.store import open_bundle
    from simulated_engines import with_engines

    folder = with_engines(exports.bundle("sd1", "fp32"), tmp_path / "b", sizes=(SIZE, (64, 64)), batch=(1, 3))
    engines = {engine.component: engine for engine in open_bundle(folder, verify=False).manifest.engines}
    assert [profile.is_static for profile in engines["unet_step"].profiles] == [True, True, False]
    assert len(engines["text_encoder"].profiles) == 1
    with (
        Editor(folder, backend="tensorrt", fused_step=True) as editor,
        Editor(folder, backend="ort-cpu", threads=1, fused_step=True) as plain,
    ):
        ran = []
        for width, height, count in ((*SIZE, 1), (64, 64, 1), (64, 56, 1), (64, 64, 2)):
            selected.clear()
            pictures, texts = [picture(60, width, height)] * count, ["x"] * count
            shape: dict[str, Any] = {"seed": list(range(count)), "resolution": 64}
            assert_close(edit(editor, pictures, texts, **shape), edit(plain, pictures, texts, **shape))
            ran.append({index for network, index in selected if network == "unet_step"})
        assert ran == [{0}, {1}, {2}, {2}]
        opened = [memory.name for memory in editor.memory if "unet_step" in memory.name]
        assert len(opened) == 1  # the weights are on the device once
