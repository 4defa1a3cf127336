"""What the server costs without the model: an edit of a 512-pixel JPEG, beside FastAPI by itself in the same run.

    python benchmarks/serving_overhead.py

`pixrt serve` runs an engine that computes nothing, with one step, on a bundle of Stable Diffusion's sizes: the picture
is decoded, becomes the network's numbers and a picture again, and is encoded. No two requests have the same picture or
text, so no cache helps, and results are as long files as photographs. The other side is the least that FastAPI does
with a picture: read the form, decode the JPEG, encode one in the same way. Both run on uvicorn with the same settings,
each in processes of its own; one client asks them in turn. It ends with 1 if a limit is broken.
"""

import io
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from figures.pictures import photo_jpeg
from figures.process import Served
from figures.wire import EDITS, Connection, request, run
from pixrt.bundles.manifest import MANIFEST_NAME
from pixrt.bundles.store import BUILT_IN

SIDE = 512
LIMITS_MS = {"p50": 8.0, "p99": 15.0}
QUALITY = 95
NOISE = 0.07  # of the engine's numbers, which are 2 from black to white
_WARM_UP = 30


@dataclass(frozen=True)
class Overhead:
    """Milliseconds of every request, of the server and of FastAPI by itself."""

    ours: Sequence[float]
    bare: Sequence[float]

    @property
    def is_within(self) -> bool:
        """Whether no limit is broken."""
        return all(percentile(self.ours, int(name[1:])) <= limit for name, limit in LIMITS_MS.items())


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def measure(requests: int) -> Overhead:
    """Ask both in turn."""
    with tempfile.TemporaryDirectory() as name, bare() as bare_port:
        bundle = stand_in_bundle(Path(name) / "bundle")
        with Served("--bundle", str(bundle), "--backend", "null", "--provider-option", f"noise={NOISE}") as server:
            return run(lambda: _ask(server.port, bare_port, requests))


async def _ask(port: int, bare_port: int, requests: int) -> Overhead:
    ours, theirs = await Connection.to(port), await Connection.to(bare_port)
    times: tuple[list[float], list[float]] = [], []
    for number in range(requests + _WARM_UP):
        picture = {"image": numbered(photo_jpeg(SIDE), number)}
        fields = {"prompt": f"make it red, {number}", "num_inference_steps": 1, "seed": number}
        wire = request(EDITS, fields | {"output_format": "jpeg", "output_compression": QUALITY}, picture)
        bare_wire = request("/", files=picture)
        for kept, connection, each in ((times[0], ours, wire), (times[1], theirs, bare_wire)):
            answer = await connection.ask(each)
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {answer.body[:500]!r}")
            if number >= _WARM_UP:
                kept.append(answer.ms)
    return Overhead(*times)


def numbered(jpeg: bytes, number: int) -> bytes:
    """The same picture as another file: its number is a comment in it."""
    return jpeg[:2] + b"\xff\xfe\x00\x08%06d" % number + jpeg[2:]


def stand_in_bundle(folder: Path) -> Path:
    """The bundle `shapes` with the sizes of Stable Diffusion: 512 pixels, of which eight are one of the latents."""
    shutil.copytree(BUILT_IN / "shapes", folder)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest |= {"name": "stand-in", "native_resolution": SIDE, "size_multiple": 8}
    manifest["latents"]["scale"] = 8
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder


@contextmanager
def bare() -> Iterator[int]:
    """FastAPI by itself, in a process of its own; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, __file__, "--bare", str(port)])
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def serve_bare(port: int) -> None:
    """Decode a JPEG and encode one, and nothing else."""
    import uvicorn
    from fastapi import FastAPI, Response, UploadFile
    from PIL import Image

    app = FastAPI()

    @app.post("/")
    async def edit(image: UploadFile) -> Response:
        with Image.open(image.file, formats=["JPEG"]) as opened:
            decoded = opened.convert("RGB")
        file = io.BytesIO()
        decoded.save(file, "JPEG", quality=QUALITY, subsampling="4:4:4")
        return Response(file.getvalue(), media_type="image/jpeg")

    uvicorn.run(app, port=port, log_config=None, access_log=False, ws="none", lifespan="off", server_header=False)


def main(
    requests: Annotated[int, typer.Option(help="How often each side is asked.")] = 1000,
    bare: Annotated[int | None, typer.Option(hidden=True, help="Be the other side, on this port.")] = None,
) -> None:
    if bare is not None:
        serve_bare(bare)
        return
    found = measure(requests)
    table = Table("milliseconds", "p50", "p90", "p99", "most")
    for name, values in (("pixrt serve", found.ours), ("FastAPI by itself", found.bare)):
        table.add_row(name, *(f"{percentile(values, share):.2f}" for share in (50, 90, 99)), f"{max(values):.2f}")
    ratios = (percentile(found.ours, share) / percentile(found.bare, share) for share in (50, 90, 99))
    table.add_row("ratio", *(f"{ratio:.2f}" for ratio in ratios), "")
    table.add_row("limit", f"{LIMITS_MS['p50']:g}", "", f"{LIMITS_MS['p99']:g}", "")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    raise typer.Exit(int(not found.is_within))


if __name__ == "__main__":
    typer.run(main)
