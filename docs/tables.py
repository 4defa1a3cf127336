"""The tables of measured figures, written into the pages out of results that commands wrote.

`python docs/tables.py` writes them anew. A page has `<!-- photo -->` before a table of `results/photo.json` and
`<!-- /photo -->` after it; a test checks that they agree, so no figure is typed by hand.
"""

import json
import re
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


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {"photo": photo}


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
