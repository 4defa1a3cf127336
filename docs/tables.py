"""The tables of measured figures, written into the pages out of results that commands wrote.

`python docs/tables.py` writes them anew. A page has `<!-- photo -->` before a table of `results/photo.json` and
`<!-- /photo -->` after it; a test checks that they agree, so no figure is typed by hand.
"""

import json
import re
import statistics
from collections.abc import Callable, Mapping
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


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {"photo": photo, "peers": peers}
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
