"""The original's layout: `seeds.json`, `NAME/prompt.json`, `NAME/SEED_0.jpg` and `SEED_1.jpg`. Must not import PyTorch.

As edit_dataset.py of timothybrooks/instruct-pix2pix reads it (Brooks et al. 2023), but there an epoch takes one of a
name's seeds at random, and here every seed is a sample.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixrt.errors import DataError
from pixrt.reading import Malformed, parse_json, read_regular
from pixrt_export.data.rows import BadRow, Captions, Row, captions_of, malformed, path_fault, text_fault

INDEX = "seeds.json"
MOST_PROMPT_BYTES, MOST_SEEDS_BYTES, MOST_SEEDS = 1 << 20, 256 << 20, 20_000_000


def read_original(folder: Path) -> Iterator[Row | BadRow]:
    """Every (name, seed) in the order of `seeds.json`; the number is the entry's. Raises DataError."""
    for number, entry in enumerate(_entries(folder / INDEX), 1):
        match entry:
            case [name, [_, *_] as seeds]:
                yield from _samples(folder, number, name, seeds)
            case _:
                yield BadRow(number, f"is not [name, [seed, ...]] but {json.dumps(entry)[:80]}")


def _samples(folder: Path, number: int, name: object, seeds: list[Any]) -> Iterator[Row | BadRow]:
    fault = path_fault(name)
    if fault is not None:
        yield BadRow(number, f"the name {fault}")
        return
    try:
        instruction, captions = _texts(folder / str(name) / "prompt.json")
    except ValueError as error:
        yield BadRow(number, f"{name}/prompt.json {error}")
        return
    for seed in seeds:
        stem = f"{name}/{seed}"
        fault = path_fault(stem) if type(seed) in (int, str) else f"is {json.dumps(seed)[:80]}"
        if fault is not None:
            yield BadRow(number, f"a seed {fault}")
        else:
            yield Row(number, instruction, f"{stem}_0.jpg", f"{stem}_1.jpg", captions)


def _texts(path: Path) -> tuple[str, Captions | None]:
    """Instruction and captions of a name. Raises ValueError that says what is wrong with its file."""
    if not os.path.lexists(path):
        raise ValueError("is missing")
    try:
        prompt = parse_json(read_regular(path, MOST_PROMPT_BYTES, ValueError))
    except Malformed as error:
        raise ValueError(malformed(error)) from None
    if not isinstance(prompt, dict) or "edit" not in prompt:
        raise ValueError('has no "edit"')
    fault = text_fault(prompt["edit"])
    if fault is not None:
        raise ValueError(f'"edit" {fault}')
    return prompt["edit"], captions_of(prompt.get("input"), prompt.get("output"))


def _entries(path: Path) -> list[Any]:

    def refuse(problem: str) -> DataError:
        return DataError(problem, remedy="Check its permissions, or copy the data set again")

    try:
        entries = parse_json(read_regular(path, MOST_SEEDS_BYTES, refuse), most_values=MOST_SEEDS)
    except Malformed as error:
        raise refuse(f"{path} cannot be used: {error}") from error
    if not isinstance(entries, list):
        raise DataError(f"{path} is not a list", remedy="It must be a list of [name, [seed, ...]]")
    return entries
