"""Results of `pixrt bench --json` or of `peers.py` beside each other: how often the second fits into the first.

    python benchmarks/compare.py BEFORE.json AFTER.json [BEFORE.json AFTER.json ...]

Files are given in pairs, best in the order in which they were measured in turn. With several pairs the ratio of each is
taken, and their least, median and most are printed. It ends with 2 for results that measured different edits. What
differs in the session or the environment is listed: that may be what is compared. Of results of `peers.py` the runs and
sides that all have are compared, by the median of an edit, by how many times as fast as diffusers FP32 it is (which a
slower hour does not change), and by peak memory.
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
# Of a run of `peers.py`: what must be alike to be compared.
RUN = ("model", "model_sha256", "size", "network", "scale_to", "scheduler", "guidance_scale", "image_guidance_scale")
ONCE = {"open_ms": "bundle opened", "peak_memory_bytes": "peak memory"}
Facts = Mapping[str, Any]


def figures(facts: Facts) -> dict[str, float]:
    """What is compared: less is better for all but the peaks, which say how alike the machine was."""
    if "runs" in facts:
        return {name: figure for run in facts["runs"] for name, figure in of_run(run).items()}
    first = {f"first {name}": facts["first_ms"][name] for name in ("load", "edit")}
    once = {label: facts[name] for name, label in ONCE.items() if facts[name] is not None}
    peaks = {f"peak {name}": facts["peaks"][name] for name in ("gemm_flop_per_s", "copy_bytes_per_s")}
    stages = {name: spread["p50"] for name, spread in facts["stages_ms"].items()}
    return {**stages, "host step": facts["host_step_ms"]["p50"], **first, **once, **peaks}


def of_run(run: Facts) -> dict[str, float]:
    """The figures of a run's sides, less for what is better."""
    what = f"{run['model']} {run['size']} px{', a step' if run['network'] else ''}"
    found = {}
    for side in run["sides"]:
        if side["not_run"] is None:
            name = f"{what}: {side['name']}"
            found[f"{name}, s"] = side["median_s"]
            found[f"{name}, of diffusers FP32"] = 1 / statistics.median(side["ratios"])
            found[f"{name}, peak memory"] = side["peak_memory_bytes"]
    return found


def identity(facts: Facts) -> dict[str, Any]:
    """What must be alike, by name: of a result of `peers.py` the runs, each by its model, size and kind."""
    if "runs" not in facts:
        return {name: facts.get(name) for name in SAME}
    return {
        f"{run['model']} {run['size']} {run['network']}": {name: run[name] for name in RUN} for run in facts["runs"]
    }


def conditions(facts: Facts) -> dict[str, Any]:
    """What may differ and is told."""
    if "runs" not in facts:
        return {name: facts.get(name) for name in TOLD}
    alike = [run["environment"] | {name: run[name] for name in ("threads", "steps", "repeat")} for run in facts["runs"]]
    return dict(zip(identity(facts), alike, strict=True))


def mismatches(one: Facts, other: Facts) -> list[str]:
    """Why two results cannot be compared: what differs of one edit, or of the runs that both have."""
    left, right = identity(one), identity(other)
    if ("runs" in one) != ("runs" in other):
        return ["one is of pixrt bench, one of peers.py"]
    names = sorted({*left} & {*right})
    return differing(left, right, names) if names else ["no run is in both"]


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
        other = mismatches(results[0], result)
        if other:
            print(f"error: {files[0]} and {file} measured different edits: {'; '.join(other)}")
            raise typer.Exit(2)
    left, right = conditions(results[0]), conditions(results[1])
    told = differing(left, right, [name for name in left if name in right])
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
