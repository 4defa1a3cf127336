"""Masked edits, inpainting and style in the world that the model `shapes` was trained on, of scenes it never saw.

    python benchmarks/world_tasks.py EDIT_BUNDLE TEXT_BUNDLE

TEXT_BUNDLE is the same checkpoint exported with --without-source. Prints, of as many scenes each: masked edits (the
quarter with a shape may change, which the instruction names) and inpaintings (the quarter with a shape, after the
caption of the whole) whose picture shows exactly what is asked, by `pixrt eval text-to-image`'s rule; whether outside
the mask every byte is the input's; and of styles how often the background becomes the style's colour, and how often the
shapes keep their places.
"""

from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from pixrt.editor.editor import Editor
from pixrt_export.evaluation.statistics import Share
from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import View
from pixrt_export.world.pairs import WorldPairs
from pixrt_export.world.presence import look, sight_of
from pixrt_export.world.scene import Scene

SIDE = 64
KIND = "recolor"
DISTINCT = 25  # of 255, in one channel at least: what is seen on its background


def quarter(scene: Scene, name: str) -> NDArray[np.bool_]:
    """The quarter of the picture with a shape."""
    shape = scene.find(name)
    mask = np.zeros((SIDE, SIDE), bool)
    top, left = (SIDE // 2 * (place > 0.5) for place in (shape.y, shape.x))
    mask[top : top + SIDE // 2, left : left + SIDE // 2] = True
    return mask


def outside_equal(mask: NDArray[np.bool_], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    return bool(np.array_equal(before[~mask], after[~mask]))


def masked_edits(editor: Editor, count: int) -> tuple[Share, Share]:
    right = same = 0
    for index in range(count):
        scene, instruction, text = WorldPairs(count, 1, "held-out", kind=KIND).draw(index)
        assert instruction is not None
        before, mask = draw(View(scene), SIDE), quarter(scene, changed(scene, instruction.apply(scene).scene))
        after = np.asarray(editor.edit(before, text, mask=mask, seed=index).image)
        right += look(after) == sight_of(instruction.apply(scene).scene)
        same += outside_equal(mask, before, after)
    return Share(right, count), Share(same, count)


def changed(before: Scene, after: Scene) -> str:
    """The shape that differs."""
    return next(shape.name for shape in before.shapes if shape not in after.shapes)


def inpaintings(editor: Editor, count: int) -> tuple[Share, Share]:
    right = same = 0
    for index in range(count):
        scene, _, text = WorldPairs(count, 2, "held-out", captions=1.0).draw(index)
        before, mask = draw(View(scene), SIDE), quarter(scene, scene.shapes[0].name)
        after = np.asarray(editor.inpaint(before, mask, text, seed=index).image)
        right += look(after) == sight_of(scene)
        same += outside_equal(mask, before, after)
    return Share(right, count), Share(same, count)


def styles(editor: Editor, count: int) -> tuple[Share, Share]:
    ground = kept = 0
    for index in range(count):
        content, _, _ = WorldPairs(2 * count, 3, "held-out").draw(2 * index)
        style, _, _ = WorldPairs(2 * count, 3, "held-out").draw(2 * index + 1)
        after = np.asarray(editor.style(draw(View(content), SIDE), draw(View(style), SIDE), seed=index).image)
        ground += look(after).background == style.background
        rim = np.median(np.concatenate([after[0], after[-1]]).astype(int), 0)
        places = [(round(shape.y * SIDE), round(shape.x * SIDE)) for shape in content.shapes]
        kept += all(np.abs(after[place].astype(int) - rim).max() > DISTINCT for place in places)
    return Share(ground, count), Share(kept, count)


def main(
    bundle: Annotated[str, typer.Argument(help="An edit bundle of the world.")],
    text_bundle: Annotated[str, typer.Argument(help="Its text-to-image bundle.")],
    count: Annotated[int, typer.Option(help="Scenes of each task.")] = 100,
) -> None:
    with Editor(bundle) as editor:
        right, same = masked_edits(editor, count)
        print(f"masked edits right: {right}; every byte outside the same: {same}", flush=True)
        ground, kept = styles(editor, count)
        print(f"styles with the style's background: {ground}; with every shape in its place: {kept}", flush=True)
    with Editor(text_bundle) as editor:
        right, same = inpaintings(editor, count)
        print(f"inpaintings right: {right}; every byte outside the same: {same}", flush=True)


if __name__ == "__main__":
    typer.run(main)
