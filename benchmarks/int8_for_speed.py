"""An INT8 bundle of a checkpoint whose quality does not matter: every layer quantised, none measured.

    python benchmarks/int8_for_speed.py CHECKPOINT BUNDLE

For the full-size checkpoint of random weights, whose INT8 bundle is wanted for its speed: `pixrt export` measures every
block by itself, which is for models that mean something. All else is that export's own, calibrated on two edits of two
steps. The error in the manifest is that of the whole, measured once.
"""

import csv
import tempfile
from pathlib import Path
from typing import Annotated
from unittest import mock

import typer

from parity import pictures
from pixrt_export import ExportOptions, export_checkpoint
from pixrt_export.quantisation import sensitivity

EDITS = 2


def write_pairs(folder: Path) -> None:
    """Pictures with instructions, in the layout of a folder with a table."""
    rows = []
    for number, picture in enumerate(pictures((512, 512), 2 * EDITS)):
        name = f"{number}.png"
        picture.save(folder / name)
        rows.append({"input_image": name, "edit_prompt": "make the background blue", "edited_image": name})
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0]])
        table.writeheader()
        table.writerows(rows)


def main(
    checkpoint: Annotated[str, typer.Argument(help="A diffusers-format folder.")],
    bundle: Annotated[Path, typer.Argument(help="Where the bundle goes.")],
) -> None:
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(sensitivity, "_each_alone", return_value={}):
        write_pairs(Path(folder))
        options = ExportOptions(
            checkpoint=checkpoint,
            output=bundle,
            precision="int8",
            calibrate=folder,
            calibration_edits=EDITS,
            steps=2,
            overwrite=True,
        )
        export_checkpoint(options, on_progress=print)


if __name__ == "__main__":
    typer.run(main)
