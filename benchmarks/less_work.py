"""What `cache_interval` and `branch_interval` cost in quality, and save: the same edits exact and with less work.

    pixrt export tests/data/shapes_checkpoint -o out/deep-shapes --compact --deep-cache --defaults-from shapes
    python benchmarks/less_work.py out/deep-shapes [--count 90] [--steps N] [--repeat 3] [--picture FILE]...

Of held-out scenes of the world that the model `shapes` was trained on, one line for each setting: how many edits are
right by `pixrt eval world`'s judge, the median and the worst PSNR to the exact edit in dB, and network rows of an edit,
whole and shallow. With `--picture` pictures are edited after the bundle's own examples, and there is no judge. With
`--repeat` the settings take turns so many times, and the last columns are seconds of an edit, the median and the range:
on a quiet machine only. The last line is JSON.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from pixrt.editor.editor import Editor
from pixrt_export.evaluation.accuracy import psnr_db
from pixrt_export.evaluation.cases import WorldCase, held_out_cases
from pixrt_export.world.judge import nearest_is_right

# (branch_interval, cache_interval), the exact one first
SETTINGS = ((1, 1), (1, 2), (1, 3), (1, 5), (2, 1), (4, 1), (2, 2), (2, 3))
Pixels = NDArray[np.uint8]


@dataclass(slots=True)
class Line:
    """One setting: rows of an edit, and quality over all edits. `right` is None where there is no judge."""

    branch_interval: int
    cache_interval: int
    whole_rows: int
    shallow_rows: int
    edits: int
    right: int | None
    median_psnr_db: float
    worst_psnr_db: float
    seconds: list[float]

    def __str__(self) -> str:
        right = "-" if self.right is None else f"{self.right}/{self.edits}"
        took = ""
        if self.seconds:
            took = f"{statistics.median(self.seconds):9.3f} ({min(self.seconds):.3f} to {max(self.seconds):.3f})"
        return (
            f"{self.branch_interval:>6}{self.cache_interval:>6}{self.whole_rows:>8}{self.shallow_rows:>8}{right:>9}"
            f"{self.median_psnr_db:>9.1f}{self.worst_psnr_db:>9.1f}{took}"
        )


def edit(
    editor: Editor, pictures: Sequence[Pixels], texts: Sequence[str], setting: tuple[int, int], steps: int | None
) -> tuple[list[Pixels], int, int, float]:
    """The edits, whole and shallow rows of one, and seconds of one."""
    every, cached = setting
    started = time.perf_counter()
    results = [
        editor.edit(picture, text, seed=seed, steps=steps, branch_interval=every, cache_interval=cached)
        for seed, (picture, text) in enumerate(zip(pictures, texts, strict=True))
    ]
    seconds = (time.perf_counter() - started) / len(results)
    rows, shallow = results[0].network_rows, results[0].shallow_rows
    return [np.asarray(result.image) for result in results], rows - shallow, shallow, seconds


def main(
    bundle: Annotated[str, typer.Argument(help="Exported with --deep-cache.")],
    count: Annotated[int, typer.Option(help="Scenes.")] = 90,
    steps: Annotated[int | None, typer.Option(help="The bundle's by default.")] = None,
    repeat: Annotated[int, typer.Option(help="How often the settings take turns; 0 takes no times.")] = 0,
    picture: Annotated[list[Path] | None, typer.Option(help="Instead of scenes; may be repeated.")] = None,
    backend: Annotated[str, typer.Option()] = "ort-cpu",
) -> None:
    """Print a line for each setting."""
    with Editor(bundle, backend=backend) as editor:
        size, cases = editor.manifest.native_resolution, list[WorldCase]()
        if picture:
            made = [np.asarray(Image.open(path).convert("RGB")) for path in picture]
            asked = [(each, text) for each in made for text in editor.manifest.examples]
            pictures, texts = [each for each, _ in asked], [text for _, text in asked]
        else:
            cases = held_out_cases(count)
            pictures, texts = [case.source(size) for case in cases], [case.text for case in cases]
        print("branch cache   whole shallow    right   median    worst" + ("  seconds" if repeat else ""), flush=True)
        lines, exact = [], list[Pixels]()
        for setting in SETTINGS:
            found, whole, shallow, _ = edit(editor, pictures, texts, setting, steps)
            exact = exact or found
            psnr = [psnr_db(ours, theirs) for ours, theirs in zip(found, exact, strict=True)]
            judged = (
                nearest_is_right(case.scene, case.instruction, each) for case, each in zip(cases, found, strict=False)
            )
            right = sum(judged) if cases else None
            line = Line(*setting, whole, shallow, len(found), right, statistics.median(psnr), min(psnr), [])
            lines.append(line)
            if not repeat:
                print(line, flush=True)
        few = min(len(texts), 9)
        for _ in range(repeat):  # everything has run once
            for line in lines:
                setting = line.branch_interval, line.cache_interval
                line.seconds.append(edit(editor, pictures[:few], texts[:few], setting, steps)[-1])
        if repeat:
            print(*lines, sep="\n")
        print(json.dumps({"model": editor.manifest.name, "lines": [asdict(line) for line in lines]}))


if __name__ == "__main__":
    typer.run(main)
