"""What tests of training data share: one small set, written in each layout, and pictures that go wrong."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def picture(seed: int, width: int = 64, height: int = 64) -> Pixels:
    """Smooth noise, so that JPEG and scaling keep it alike."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Sample:
    """One sample to be written: an instruction and its pictures."""

    instruction: str
    source: Pixels | None = field(default_factory=lambda: picture(0))
    target: Pixels = field(default_factory=lambda: picture(1))


def samples(count: int = 3) -> list[Sample]:
    return [Sample(f"edit number {i}", picture(2 * i), picture(2 * i + 1)) for i in range(count)]


def write_original(folder: Path, names: dict[str, Sequence[int]]) -> None:
    """The original's layout; every picture is another one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seeds.json").write_text(json.dumps(list(names.items())))
    for at, (name, seeds) in enumerate(names.items()):
        (folder / name).mkdir(parents=True)
        prompt = {"input": f"before {name}", "edit": f"edit {name}", "output": f"after {name}"}
        (folder / name / "prompt.json").write_text(json.dumps(prompt))
        for seed in seeds:
            for side in (0, 1):
                shown = picture(1000 * at + 2 * seed + side)
                Image.fromarray(shown).save(folder / name / f"{seed}_{side}.jpg", quality=100, subsampling=0)


def write_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_table(folder: Path, written: Sequence[Sample]) -> None:
    """A folder of PNGs with metadata.jsonl."""
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for i, sample in enumerate(written):
        row = {"edit_prompt": sample.instruction, "edited_image": f"{i}b.png"}
        Image.fromarray(sample.target).save(folder / f"{i}b.png")
        if sample.source is not None:
            Image.fromarray(sample.source).save(folder / f"{i}a.png")
            row["input_image"] = f"{i}a.png"
        rows.append(row)
    write_rows(folder, rows)


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
