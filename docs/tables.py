"""The tables of measured figures, written into the pages out of results that commands wrote.

`python docs/tables.py` writes them anew. A page has `<!-- photo -->` before a table of `results/photo.json` and
`<!-- /photo -->` after it; a test checks that they agree, so no figure is typed by hand.
"""

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS / "results"


def photo(result: Mapping[str, Any]) -> str:
    """What `pixrt eval photo --json` says: in all, and by kind of edit."""
    overall, share = result["overall"], result["overall"]["accuracy"]
    lines = [
        f"`pixrt eval photo --edits {result['edits']}`, {result['size']} pixels: **{100 * share['share']:.1f} % right**"
        f" ({100 * share['low']:.0f} to {100 * share['high']:.0f}), PSNR **{overall['psnr_db']['mean']:.1f} dB** on"
        f" average; the autoencoder alone {result['reconstruction_psnr_db']['mean']:.1f} dB.",
        "",
        "| kind | right | of | PSNR, dB | worst square, RMS of 255 |",
        "|---|---|---|---|---|",
    ]
    for kind, part in result["kinds"].items():
        right = part["accuracy"]
        lines.append(
            f"| {kind} | {100 * right['share']:.0f} % | {right['count']} | {part['psnr_db']['mean']:.1f}"
            f" | {part['worst_block']['mean']:.0f} |"
        )
    return "\n".join(lines)


def less_work(result: Mapping[str, Any]) -> str:
    """What `benchmarks/less_work.py --search --json` says: what was tried on all edits, then the solvers."""
    finals = [line for line in result["lines"] if line["edits"] == result["edits"]]
    exact, *others = sorted(finals, key=lambda line: -line["work"])
    lines = [
        f"{result['edits']} held-out scenes; a shallow row weighs {result['shallow_work']:g} of a whole one. At most 1"
        f" point is lost with {_reached(finals, 1)} less work, at most 3 with {_reached(finals, 3)}.",
        "",
        "| steps, solver | `branch_interval` | `cache_interval` | `guidance_interval` | whole rows | shallow rows"
        " | times less work | right, % | points lost | median PSNR | worst PSNR |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in (exact, *others):
        low, high = (100 * line[end] for end in ("low", "high"))
        least, most = line["loss_interval"]
        lost = "" if line is exact else f"{line['loss']:.1f} ({least:.1f} to {most:.1f})"
        psnr = [("exact" if line is exact else f"{line[name]:.1f} dB") for name in ("median_psnr_db", "worst_psnr_db")]
        window = " to ".join(f"{end:g}" for end in line["guidance_interval"])
        lines.append(
            f"| {line['steps']}, {line['scheduler']} | {line['branch_interval']} | {line['cache_interval']} | {window}"
            f" | {line['whole_rows']} | {line['shallow_rows']} | {line['times_less']:.1f}"
            f" | {100 * line['right'] / line['edits']:.1f} ({low:.0f} to {high:.0f}) | {lost} | {' | '.join(psnr)} |"
        )
    return "\n".join([*lines, "", *_solvers(result["lines"])])


def _reached(lines: Sequence[Mapping[str, Any]], points: float) -> str:
    """How much less work is done at the price of so many points: with a shallow network, and without."""
    sound = [line for line in lines if line["loss"] <= points and line["guidance_interval"] == [0, 1]]
    most = max(line["times_less"] for line in sound)
    without = max(line["times_less"] for line in sound if line["cache_interval"] == 1)
    return f"**{most:.1f} times** ({without:.1f} without a shallow network)"


def _solvers(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Median PSNR to the exact edit by solver and steps, on the edits that every solver was tried with."""
    plain = [line for line in lines if line["branch_interval"] == line["cache_interval"] == 1]
    plain = [line for line in plain if line["guidance_interval"] == [0, 1]]
    cells = {(line["scheduler"], line["steps"]): line for line in plain}
    steps = sorted({line["steps"] for line in plain if sum(other["steps"] == line["steps"] for other in plain) > 1})
    count = min(line["edits"] for line in plain)
    table = [
        f"Solvers at few steps, without either interval: edits right, and the median PSNR to the exact edit in dB. On"
        f" {count} scenes, those of the table above on all.",
        "",
        f"| solver | {' | '.join(f'{each} steps' for each in steps)} |",
        "|---|" + "---|" * len(steps),
    ]
    for solver in dict.fromkeys(line["scheduler"] for line in plain):
        row = [cells.get((solver, each)) for each in steps]
        told = ["" if one is None else f"{one['right']} of {one['edits']}, {one['median_psnr_db']:.1f}" for one in row]
        table.append(f"| {solver} | {' | '.join(told)} |")
    return table


def fleet(result: Mapping[str, Any]) -> str:
    """What `benchmarks/fleet.py results` says of GPUs."""
    lines = [
        "| device | preset | rows | alone, ms | least, ms | timely, ms | requests/s | bound | **GPUs** | busy"
        " | p95 slowdown |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in result["needs"]:
        work, bound = each["work"], each["bound"]
        told = (
            "not simulated | |"
            if each["gpus"] is None
            else (f"**{each['gpus']}** | {100 * each['utilisation']:.0f} % | {each['slowdown_p95']:.2f}")
        )
        lines.append(
            f"| {each['device']} | {each['mix']} | {work['rows']:.0f} | {1000 * work['alone']:.0f}"
            f" | {1000 * work['least']:.0f} | {1000 * work['timely']:.0f}"
            f" | {each['rate']:,.0f} | {bound:,.{2 if bound < 10 else 0}f} | {told} |"
        )
    return "\n".join(lines)


def fleet_routers(result: Sequence[Mapping[str, Any]]) -> str:
    """GPUs by the way in which requests find theirs."""
    lines = ["| requests/s | router | bound | GPUs | busy | p95 slowdown |", "|---|---|---|---|---|---|"]
    for each in result:
        lines.append(
            f"| {each['rate']:.0f} | {each['router']} | {each['bound']:.1f} | {each['gpus']}"
            f" | {100 * each['utilisation']:.0f} % | {each['slowdown_p95']:.2f} |"
        )
    return "\n".join(lines)


def fleet_days(result: Mapping[str, Any]) -> str:
    """A day and bursts on a fleet that is fixed, and on some that grow."""
    lines = ["| arrivals | fleet | in time | GPUs at most | GPU-hours | busy |", "|---|---|---|---|---|---|"]
    for each in result["days"]:
        lines.append(
            f"| {each['pattern']} | {each['fleet']} | {100 * each['in_time']:.1f} % | {each['most_gpus']}"
            f" | {each['gpu_seconds'] / 3600:.1f} | {100 * each['utilisation']:.0f} % |"
        )
    return "\n".join(lines)


def fleet_deaths(result: Sequence[Mapping[str, Any]]) -> str:
    """Replicas that die, and spare ones."""
    lines = ["| GPUs | died | asked again | in time | refused |", "|---|---|---|---|---|"]
    for each in result:
        lines.append(
            f"| {each['replicas']} + {each['more']} | {each['deaths']} | {each['retried']}"
            f" | {100 * each['in_time']:.2f} % | {each['refused']} of {each['requests']:,} |"
        )
    return "\n".join(lines)


def fleet_check(result: Mapping[str, Any]) -> str:
    """Two real servers beside the simulation."""
    lines = ["| load | requests | | pictures/s | p50, s | p95, s | refused |", "|---|---|---|---|---|---|---|"]
    for each in result["loads"]:
        first = f"{100 * each['load']:.0f} % | {each['requests']}"
        for name, start in (("measured", first), ("simulated", " | ")):
            told = each[name]
            lines.append(
                f"| {start} | {name} | {told['per_second']:.3f} | {told['p50']:.2f} | {told['p95']:.2f}"
                f" | {told['refused']} |"
            )
    return "\n".join(lines)


def peers(result: Mapping[str, Any]) -> str:
    """What `benchmarks/peers.py --json` says: a table for each run, and why a side is not in it."""
    parts = []
    for run in result["runs"]:
        versions = ", ".join(f"{name} {version}" for name, version in run["environment"]["versions"].items() if version)
        machine = f"{run['environment']['processor']} ({', '.join(run['environment']['instructions'])})"
        guidance = f"guidance {run['guidance_scale']:g} and {run['image_guidance_scale']:g}"
        what = f"an edit of {run['steps']} steps of {run['scheduler']}, {guidance}"
        if run["network"]:
            what = f"one step of the UNet, {run['rows']} rows, {run['flops'] / 1e9:.0f} GFLOP"
        elif run["scale_to"] != run["steps"]:
            what += f", times scaled to {run['scale_to']} steps by the median of a step"
        peaks = ", ".join(f"{name} {peak / 1e9:.0f}" for name, peak in run["peaks"]["formats"].items())
        lines = [
            f"**`{run['model']}`, {run['size']} px**: {what}; {run['threads']} threads, {run['repeat']} of each."
            f" {machine}; {versions}. Matrix products reach, in GFLOP/s: {peaks}.",
            "",
            "| | seconds | times as fast as diffusers FP32 | peak memory, GiB | PSNR to it, dB |",
            "|---|---|---|---|---|",
        ]
        if run["network"]:
            lines[2] = (
                "| | seconds | times as fast as diffusers FP32 | peak memory, GiB | GFLOP/s | of the format's peak |"
            )
            lines[3] = "|---|---|---|---|---|---|"
        measured = [side for side in run["sides"] if side["not_run"] is None]
        lines += [_peer(side, run) for side in measured]
        left_out = [f"{side['name']}: {side['not_run']}" for side in run["sides"] if side["not_run"] is not None]
        if left_out:
            lines += ["", f"Not run: {'; '.join(left_out)}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _peer(side: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    ratios, memory = side["ratios"], side["peak_memory_bytes"] / 2**30
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    first = f"| {side['name']} | {side['median_s']:.3g} | {ratio} | {memory:.2f} |"
    if not run["network"]:
        return f"{first} {'-' if side['psnr_db'] is None else format(side['psnr_db'], '.1f')} |"
    speed = run["flops"] / side["median_s"]
    peak = run["peaks"]["formats"].get(side["format"])
    return f"{first} {speed / 1e9:.0f} | {'-' if peak is None else f'{100 * speed / peak:.0f} %'} |"


TABLES: dict[str, Callable[[Any], str]] = {
    "photo": photo,
    "peers": peers,
    "less-work": less_work,
    "fleet": fleet,
    "fleet-routers": fleet_routers,
    "fleet-days": fleet_days,
    "fleet-deaths": fleet_deaths,
    "fleet-check": fleet_check,
}
NOT_MEASURED = "No measurement is kept here yet: the commands of this page make one."


def with_tables(page: str) -> str:
    """The page with its tables as the results say."""
    for name, table in TABLES.items():
        if f"<!-- {name} -->" in page:
            result = RESULTS / f"{name}.json"
            told = table(json.loads(result.read_text(encoding="utf-8"))) if result.exists() else NOT_MEASURED
            text = f"\n{told}\n"
            pattern = rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- /{name} -->)"
            page = re.sub(pattern, lambda _, text=text: text, page, flags=re.DOTALL)
    return page


def pages() -> list[Path]:
    """Every page that has such tables."""
    found = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    return [page for page in found if any(f"<!-- {name} -->" in page.read_text(encoding="utf-8") for name in TABLES)]


if __name__ == "__main__":
    for each in pages():
        each.write_text(with_tables(each.read_text(encoding="utf-8")), encoding="utf-8")
