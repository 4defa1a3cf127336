"""The pages of the site that are made: README as the first one, the changelog, the command line's reference.

A hook of mkdocs. It asks typer for the reference, in a process of its own.
"""

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not stand in docs/ to the site."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture in re.findall(r"\]\((examples/[^)]+)\)", readme):
        files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    pages = {
        "index.md": _from_the_root(readme),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "reference/command-line.md": _command_line(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _from_the_root(text: str) -> str:
    """Links as they are from the site's first page."""
    return text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")


def _command_line() -> str:
    """The help of every command, as Markdown."""
    typer = [sys.executable, "-m", "typer", "pixrt.cli.app", "utils", "docs", "--name", "pixrt"]
    made = subprocess.run([*typer, "--title", "Every command and option"], capture_output=True, text=True, check=True)
    return made.stdout
