"""Write a random-weight InstructPix2Pix checkpoint in diffusers' format, for measuring export, parity and speed.

    python benchmarks/make_checkpoint.py FOLDER              # full size, 5 GB
    python benchmarks/make_checkpoint.py FOLDER --kind sd2   # small: sd1, sd2, text_to_image, inpainting, tiny_vae

The weights are diffusers' own initial values, seeded; the pictures mean nothing, the work is the real one.
"""

from pathlib import Path
from typing import Annotated

import typer

from checkpoints import KINDS, make_checkpoint


def main(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "full",
) -> None:
    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}")
    make_checkpoint(kind, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {kind}, {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
