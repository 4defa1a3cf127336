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


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {"photo": photo, "less-work": less_work}


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
