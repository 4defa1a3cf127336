"""The engines of a full-size bundle: seconds, peak memory and size of each, built without a GPU by TensorRT-RTX.

    python benchmarks/make_checkpoint.py FOLDER/checkpoint --kind full
    pixrt export FOLDER/checkpoint -o FOLDER/bundle --precision fp16 --fused-step
    python benchmarks/build_full_size.py FOLDER/bundle

Each component is built by `pixrt build` in a process of its own, so that the peak is its own: one plan with all its
profiles (of the UNet four: three static ones, one for what lies between), beside the weights that they share. It ends
with 1 where a network takes more than 150 s a profile or 8 GB, or an engine more than 1.05 times its weights and 32 MiB
a profile. The built-in model takes half a minute: `pixrt export tests/data/shapes_checkpoint ...`, `--size 64x64,...`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from pixrt.bundles.store import open_bundle

_CHILD = (
    "import json,resource,sys; from pixrt.cli import main\n"
    "try:\n    main()\nfinally:\n"
    "    print(json.dumps({'peak': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), file=sys.stderr)"
)


def main(
    bundle: Annotated[Path, typer.Argument(help="A bundle exported with --precision fp16 --fused-step.")],
    target: Annotated[str, typer.Option(help="Compute capabilities.")] = "sm89",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels, separated by commas.")] = "512x512,768x512,512x768",
    batch: Annotated[str, typer.Option(help="Pictures at once.")] = "1-4",
    branches: Annotated[str, typer.Option(help="Branches of the guidance.")] = "3",
) -> None:
    beyond = []
    print(
        f"{'component':18}{'profiles':>9}{'seconds':>9}{'peak GiB':>10}"
        f"{'engine MiB':>12}{'weights MiB':>13}{'ratio':>7}"
    )
    for component in open_bundle(bundle, verify=False).manifest.components:
        command = [
            sys.executable,
            "-c",
            _CHILD,
            "build",
            str(bundle),
            "--library",
            "tensorrt-rtx",
            "--rebuild",
            "--json",
        ]
        command += ["--target", target, "--size", size, "--batch", batch, "--branches", branches]
        command += ["--component", component]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{component}: {done.stderr.strip()}")
        peak = json.loads(done.stderr.strip().splitlines()[-1])["peak"] / 2**20  # of kilobytes
        for line in done.stdout.strip().splitlines():
            engine = json.loads(line)
            weights, profiles = engine["source_bytes"], len(engine["profiles"])
            most = 1.05 * weights + profiles * (32 << 20)
            if seconds > 150 * profiles or peak * 2**30 > 8e9 or engine["bytes"] > most:
                beyond.append(component)
            print(
                f"{component:18}{profiles:9}{seconds:9.1f}{peak:10.2f}"
                f"{engine['bytes'] / 2**20:12.1f}{weights / 2**20:13.1f}{engine['bytes'] / weights:7.3f}"
            )
    if beyond:
        sys.exit(f"beyond 150 s a profile, 8 GB, or the weights and 32 MiB a profile: {', '.join(beyond)}")


if __name__ == "__main__":
    typer.run(main)
