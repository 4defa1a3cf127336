"""The web page's libraries, out of npm's packages into files of one's own: python docs/page_libraries.py.

Needs npm, and a network, now and never again: what it writes is kept with the sources. Each library becomes one ES
module without imports, minified; `LICENSES.md` beside them says which versions are in which file, under which licence,
and the files' SHA-256.
"""

import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "runtime/pixrt/page/static/vendor"
ESBUILD = "0.28.2"
VERSIONS = {
    "preact": "11.2.0",
    "@preact/signals": "2.11.4",
    "@preact/signals-core": "1.14.5",
    "htm": "3.1.1",
    "idb": "8.0.4",
    "client-zip": "2.5.1",
    "eventsource-parser": "4.1.3",
    "@panzoom/panzoom": "4.6.2",
}


@dataclass(frozen=True, slots=True)
class Module:
    """A file: its module's source, and the packages that it takes in."""

    source: str
    packages: tuple[str, ...]


MODULES = {
    "preact.js": Module(
        """
        import { h } from "preact";
        import htm from "htm";
        export { h, render, Fragment } from "preact";
        export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useId } from "preact/hooks";
        export * from "@preact/signals";
        export const html = htm.bind(h);
        """,
        ("preact", "@preact/signals", "@preact/signals-core", "htm"),
    ),
    "idb.js": Module('export * from "idb";', ("idb",)),
    "client-zip.js": Module('export * from "client-zip";', ("client-zip",)),
    "eventsource-parser.js": Module('export * from "eventsource-parser/stream";', ("eventsource-parser",)),
    "panzoom.js": Module('export { default } from "@panzoom/panzoom";', ("@panzoom/panzoom",)),
}


def main() -> None:
    """Write them all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages = [f"{package}@{version}" for package, version in VERSIONS.items()]
        _run(folder, "npm", "install", "--ignore-scripts", "--no-save", *packages, f"esbuild@{ESBUILD}")
        VENDOR.mkdir(parents=True, exist_ok=True)
        for file, module in MODULES.items():
            _build(folder, file, module)
        (VENDOR / "LICENSES.md").write_text(_licences(folder))


def _build(folder: Path, file: str, module: Module) -> None:
    named = ", ".join(f"{package} {VERSIONS[package]}" for package in module.packages)
    (folder / file).write_text(module.source)
    _run(
        folder,
        "node_modules/.bin/esbuild",
        file,
        "--bundle",
        "--minify",
        "--format=esm",
        "--target=es2022",
        "--legal-comments=inline",
        f"--banner:js=/*! {named}: see LICENSES.md */",
        f"--outfile={VENDOR / file}",
    )


def _licences(folder: Path) -> str:
    """The page about all of them."""
    parts = [
        "# Libraries of the web page",
        "Written by `docs/page_libraries.py`; do not change these files by hand.",
        "\n".join(["| file | holds | SHA-256 |", "|---|---|---|", *(_row(file) for file in MODULES)]),
    ]
    for package, version in VERSIONS.items():
        inside = folder / "node_modules" / package
        about = json.loads((inside / "package.json").read_text())
        licence = next(file for file in inside.iterdir() if "licen" in file.name.lower()).read_text().strip()
        parts.append(f"## {package} {version} ({about['license']})\n\n```text\n{licence}\n```")
    return "\n\n".join(parts) + "\n"


def _row(file: str) -> str:
    digest = hashlib.sha256((VENDOR / file).read_bytes()).hexdigest()
    return f"| {file} | {', '.join(f'{name} {VERSIONS[name]}' for name in MODULES[file].packages)} | {digest} |"


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    main()
