"""What the weights of a style do: how near results are to the style, and how far from the content, averaged over pairs.

    python benchmarks/style_curves.py [BUNDLE]

The distance to the style is that of the Gram matrices of latents (`pixrt.maths.style.gram_distance`, relative), to
the content the root mean square of the difference. Ends with 1 where a mean does not go the way it should:
nearer to the style and farther from the content with more style, nearer to the content with more content.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from pixrt.core.timing import Stopwatch
from pixrt.editor.editor import Editor
from pixrt.maths.style import gram_distance
from pixrt.pictures.inputs import prepare_style
from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import View
from pixrt_export.world.pairs import WorldPairs

STYLE_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8)
CONTENT_WEIGHTS = (0.0, 0.2, 0.4, 0.6)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def scenes(count: int, size: int) -> list[Pair]:
    """Held-out scenes of the drawn world, a content and a style each."""
    drawn = WorldPairs(2 * count, 3, "held-out")
    made = [draw(View(drawn.draw(index)[0]), size) for index in range(2 * count)]
    return list(zip(made[::2], made[1::2], strict=True))


def measure(editor: Editor, pairs: Sequence[Pair], **parameters: Any) -> tuple[float, float]:
    """Mean distances of the results to the style, and to the content."""
    found = []
    for seed, (content, style) in enumerate(pairs):
        made = latents_of(editor, editor.style(content, style, seed=seed, **parameters).image)
        difference = made - latents_of(editor, content)
        found.append((gram_distance(made, latents_of(editor, style)), float(np.sqrt(np.mean(difference**2)))))
    gram, content_distance = np.mean(found, 0)
    return float(gram), float(content_distance)


def latents_of(editor: Editor, picture: Any) -> NDArray[np.float32]:
    source = editor._networks.encoders.source(prepare_style(picture, editor.manifest, {}).pixels, Stopwatch())
    latents: NDArray[np.float32] = source.astype(np.float32) * np.float32(editor.manifest.latents.scaling)
    return latents


def rises(values: Sequence[float]) -> bool:
    return all(one < other for one, other in pairwise(values))


def main(
    bundle: Annotated[str, typer.Argument(help="A bundle of the drawn world, to edit or from text.")] = "shapes",
    pairs: Annotated[int, typer.Option(help="Contents and styles.")] = 20,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
) -> None:
    with Editor(bundle) as editor:
        drawn = scenes(pairs, editor.manifest.native_resolution)

        def curve(
            values: Sequence[float], parameters: Callable[[float], dict[str, float]]
        ) -> list[tuple[float, float]]:
            return [measure(editor, drawn, steps=steps, **parameters(value)) for value in values]

        print(f"{'style_weight':>16}{'to the style':>14}{'to the content':>16}   content_weight 0.2")
        by_style = curve(STYLE_WEIGHTS, lambda weight: {"content_weight": 0.2, "style_weight": weight})
        for weight, (gram, content) in zip(STYLE_WEIGHTS, by_style, strict=True):
            print(f"{weight:16}{gram:14.3f}{content:16.3f}")
        print(f"{'content_weight':>16}{'to the style':>14}{'to the content':>16}   style_weight 0.4")
        by_content = curve(CONTENT_WEIGHTS, lambda weight: {"content_weight": weight, "style_weight": 0.4})
        for weight, (gram, content) in zip(CONTENT_WEIGHTS, by_content, strict=True):
            print(f"{weight:16}{gram:14.3f}{content:16.3f}")
    grams, contents = zip(*by_style, strict=True)
    right = rises(grams[::-1]) and rises(contents) and rises([content for _, content in by_content][::-1])
    raise typer.Exit(0 if right else 1)


if __name__ == "__main__":
    typer.run(main)
