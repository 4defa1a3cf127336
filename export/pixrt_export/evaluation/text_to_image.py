"""Text-to-image of the procedural world: the share of pictures that show what their caption names. No PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixrt.editor.editor import Editor
from pixrt.errors import OptionError
from pixrt.options.parameters import GenerateParameters
from pixrt_export.evaluation.report import OnProgress
from pixrt_export.evaluation.statistics import Share
from pixrt_export.world.pairs import WorldPairs
from pixrt_export.world.presence import Sight, look, sight_of
from pixrt_export.world.scene import Scene

GenerateFunction: TypeAlias = Callable[[Sequence[str], Sequence[int]], NDArray[np.uint8]]
"""Captions and the seed of each to pictures [B, H, H, 3]."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture that was made of a caption, and what was found on it."""

    scene: Scene
    caption: str
    picture: NDArray[np.uint8]
    sight: Sight

    @property
    def background_right(self) -> bool:
        """Whether the background is the caption's."""
        return self.sight.background == self.scene.background

    @property
    def right(self) -> bool:
        """Whether the background, and exactly the shapes and colours of the caption, were found."""
        return self.sight == sight_of(self.scene)


def generate_function(editor: Editor, parameters: GenerateParameters) -> GenerateFunction:
    """An editor as a function of captions and seeds."""

    def generate(captions: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        options: GenerateParameters = {**parameters, "seed": list(seeds)}
        results = editor.generate(list(captions), **options)
        return np.stack([np.asarray(result.image) for result in results])

    return generate


def sample_captions(
    generate: GenerateFunction,
    count: int,
    *,
    seed: int = 0,
    batch: int = 16,
    on_progress: OnProgress = lambda done, total: None,
) -> list[Sample]:
    """Make pictures of the captions of `count` held-out scenes and look at them. Raises OptionError for none.

    The noise has the seeds `seed`, `seed` + 1 and so on.
    """
    if count < 1:
        raise OptionError(f"{count} samples", remedy="Ask for one at least")
    pairs = WorldPairs(count, seed, split="held-out", captions=1.0)
    asked = [(scene, caption) for scene, _, caption in map(pairs.draw, range(count))]
    samples: list[Sample] = []
    on_progress(0, count)
    for start in range(0, count, batch):
        part = asked[start : start + batch]
        pictures = generate([caption for _, caption in part], range(seed + start, seed + start + len(part)))
        for (scene, caption), picture in zip(part, pictures, strict=True):
            samples.append(Sample(scene, caption, picture, look(picture)))
        on_progress(len(samples), count)
    return samples


def present(samples: Sequence[Sample]) -> dict[str, Share]:
    """The share of right samples: of `all`, and of those with 1, 2 and 3 shapes; and of right backgrounds."""
    groups = {str(number): [s for s in samples if len(s.scene.shapes) == number] for number in (1, 2, 3)}
    return {
        "all": Share.of(sample.right for sample in samples),
        **{name: Share.of(sample.right for sample in group) for name, group in groups.items() if group},
        "background": Share.of(sample.background_right for sample in samples),
    }


def samples_facts(samples: Sequence[Sample]) -> dict[str, Any]:
    """As JSON."""
    return {
        "present": {name: share.facts() for name, share in present(samples).items()},
        "samples": [
            {"caption": sample.caption, "found": str(sample.sight), "right": sample.right} for sample in samples
        ],
    }
