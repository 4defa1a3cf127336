"""The tables of measured figures, written into the pages out of results that commands wrote.

`python docs/tables.py` writes them anew. A page has `<!-- photo -->` before a table of `results/photo.json` and
`<!-- /photo -->` after it; a test checks that they agree, so no figure is typed by hand.
"""

import json
import re
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


TABLES: dict[str, Callable[[Any], str]] = {
    "photo": photo,
    "fleet": fleet,
    "fleet-routers": fleet_routers,
    "fleet-days": fleet_days,
    "fleet-deaths": fleet_deaths,
    "fleet-check": fleet_check,
}


def with_tables(page: str) -> str:
    """The page with its tables as the results say."""
    for name, table in TABLES.items():
        if f"<!-- {name} -->" in page:
            text = "\n" + table(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))) + "\n"
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
