"""`pixrt export` of one file in the original layout, at the size of InstructPix2Pix, against that of a folder.

    python benchmarks/single_file.py FOLDER [--half]

makes a checkpoint of random weights in diffusers' format and the same as one file in FOLDER, exports both, each in a
process of its own, and prints seconds, the highest resident memory that the operating system counted, and whether the
bundles' files are the same to the last bit. It takes 13 GB of disk at most with --half, 22 GB without.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from checkpoints import make_checkpoint
from pixrt.bundles.manifest import MANIFEST_NAME
from pixrt.bundles.store import open_bundle

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))
KIND = "full"


def main(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; what is made is removed at the end.")],
    half: Annotated[bool, typer.Option("--half", help="Weights in FP16, as most files have them.")] = False,
    kind: Annotated[str, typer.Option(help="Another kind of `checkpoints.KINDS`.")] = KIND,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, single = write(folder, kind, half)
    hashes = {}
    for source in (checkpoint, single):
        bundle = folder / "bundle"
        seconds, gibibytes = export(source, bundle)
        size = sum(path.stat().st_size for path in source.rglob("*")) if source.is_dir() else single.stat().st_size
        print(
            f"{source.name}: {size / 2**30:.2f} GiB, exported in {seconds:.0f} s, peak memory {gibibytes:.1f} GiB",
            flush=True,
        )
        hashes[source] = {name: spec.sha256 for name, spec in open_bundle(bundle, verify=True).manifest.files.items()}
        shutil.rmtree(bundle)
    assert MANIFEST_NAME not in hashes[single]
    differing = sorted(name for name, sha256 in hashes[checkpoint].items() if hashes[single].get(name) != sha256)
    same = len(hashes[checkpoint]) - len(differing)
    print(f"{same} of {len(hashes[checkpoint])} files are the same to the last bit; others: {differing or 'none'}")
    shutil.rmtree(checkpoint)
    single.unlink()


def write(folder: Path, kind: str, half: bool) -> tuple[Path, Path]:
    """The folder and the file of one checkpoint of random weights."""
    from safetensors.torch import load_file, save_file

    from original_layout import original

    checkpoint, single = make_checkpoint(kind, folder / "folder"), folder / "single.safetensors"
    if half:
        for path in checkpoint.rglob("*.safetensors"):
            save_file({name: each.half() for name, each in load_file(path).items()}, path, {"format": "pt"})
    save_file(original(checkpoint), single)
    return checkpoint, single


def export(source: Path, bundle: Path) -> tuple[float, float]:
    """Seconds, and the peak of resident memory in GiB."""
    command = [sys.executable, "-m", "pixrt", "export", str(source), "-o", str(bundle), "--scheduler", "euler"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the export failed: {' '.join(command)}")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    typer.run(main)
