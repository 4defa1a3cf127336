"""Results of `pixrt bench --json` beside each other: how many times the first of a pair takes what the second takes.

    python benchmarks/compare.py BEFORE.json AFTER.json [BEFORE.json AFTER.json ...]

Files are given in pairs, best in the order in which they were measured in turn. With several pairs the ratio of each is
taken, and their least, median and most are printed. It ends with 2 for results that measured different edits. What
differs in the session or the environment is listed: that may be what is compared.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

SAME = ("model", "model_sha256", "precision", "loras", "parameters", "size", "network_calls", "network_rows")
TOLD = ("pixrt", "backend", "session", "environment", "repeats", "warmups")
ONCE = {"open_ms": "bundle opened", "peak_memory_bytes": "peak memory"}
Facts = Mapping[str, Any]


def figures(facts: Facts) -> dict[str, float]:
    """What is compared: less is better for all but the peaks, which say how alike the machine was."""
    first = {f"first {name}": facts["first_ms"][name] for name in ("load", "edit")}
    once = {label: facts[name] for name, label in ONCE.items() if facts[name] is not None}
    peaks = {f"peak {name}": facts["peaks"][name] for name in ("gemm_flop_per_s", "copy_bytes_per_s")}
    stages = {name: spread["p50"] for name, spread in facts["stages_ms"].items()}
    return {**stages, "host step": facts["host_step_ms"]["p50"], **first, **once, **peaks}


def differing(one: Facts, other: Facts, names: Sequence[str]) -> list[str]:
    """The names whose values differ, those of tables with the name in them."""
    found = []
    for name in names:
        left, right = one.get(name), other.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += [f"{name}.{each}" for each in differing(left, right, sorted({*left, *right}))]
        elif left != right:
            found.append(f"{name} ({left} and {right})")
    return found


def ratios(pairs: Sequence[tuple[Facts, Facts]]) -> dict[str, list[float]]:
    """Before by after of every figure that all results have and that took any time, a ratio for each pair."""
    measured = [(figures(before), figures(after)) for before, after in pairs]
    shared = [name for name in measured[0][0] if all(each.get(name) for pair in measured for each in pair)]
    return {name: [before[name] / after[name] for before, after in measured] for name in shared}


def main(files: Annotated[list[Path], typer.Argument(help="Results, two for each pair.")]) -> None:
    if len(files) % 2:
        print(f"error: {len(files)} is an odd number of files; give before and after in turn")
        raise typer.Exit(2)
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for file, result in zip(files[1:], results[1:], strict=True):
        other = differing(results[0], result, SAME)
        if other:
            print(f"error: {files[0]} and {file} measured different edits: {'; '.join(other)}")
            raise typer.Exit(2)
    told = differing(results[0], results[1], TOLD)
    print(f"differs: {'; '.join(told) or 'nothing of the session and the environment'}")
    pairs = list(zip(results[::2], results[1::2], strict=True))
    table = Table("", "before", "after", "before / after", "least", "most", box=None)
    for name, values in ratios(pairs).items():
        sides = [statistics.median(figures(pair[side])[name] for pair in pairs) for side in (0, 1)]
        numbers = (*sides, statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
