"""How long and how much memory `pixrt export` takes.

    python benchmarks/make_checkpoint.py CHECKPOINT
    python benchmarks/export_full_size.py CHECKPOINT FOLDER

exports the checkpoint to FOLDER/fp32, FOLDER/fp16 and FOLDER/fp16-weights, each in a process of its own, and prints
seconds and the highest resident memory that the operating system counted for that process.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, get_args

import typer

from pixrt.bundles.manifest import Precision


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A diffusers-format folder.")],
    folder: Annotated[Path, typer.Argument(help="Where the bundles go.")],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for precision in get_args(Precision):
        command = [str(Path(sys.executable).with_name("pixrt")), "export", str(checkpoint)]
        command += ["-o", str(folder / precision), "--precision", precision, "--overwrite"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"the {precision} export failed; run it by hand: {' '.join(command)}")
        print(f"{precision}: {seconds:.0f} s, peak resident memory {usage.ru_maxrss / 2**20:.1f} GiB", flush=True)


if __name__ == "__main__":
    typer.run(main)
