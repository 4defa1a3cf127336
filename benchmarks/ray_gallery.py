"""A gallery on Ray: many small pictures on two makers of this machine, one of which is killed.

    python benchmarks/ray_gallery.py --count 100000 [--backend ort-cpu]

Pictures are made of their number, so that no two are the same. Amid the gallery one maker's process is killed. In the
end: every picture has one line in the journal and one file; a sample is made again one at a time, on this machine, and
is the same to the byte; the command's memory in the last third is what it was in the second. Ends with 1 if not.
"""

import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from figures.process import resident_mib
from pixrt.apps.entries import Entry, read_entries
from pixrt.apps.gallery import Gallery
from pixrt.apps.journal import JOURNAL_NAME, open_journal
from pixrt.editor.editor import Editor
from pixrt.options.ray import ShareOptions
from pixrt.options.session import SessionOptions
from pixrt.ray.clusters import cluster
from pixrt.ray.crew import Crew, Opening

INSTRUCTION, SIDE, FOLDERS, GROWTH_MIB, LINE_BYTES = "make it red", 32, 100, 64, 1024


def pictures(folder: Path, count: int) -> None:
    for number in range(count):
        path = folder / f"{number % FOLDERS:02d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (number % 256, number // 256 % 256, 7 * number % 256)
        Image.new("RGB", (SIDE, SIDE), colour).save(path, compress_level=1)


def main(
    count: Annotated[int, typer.Option(help="Pictures.")] = 1000,
    backend: Annotated[str, typer.Option(help="Where the networks run.")] = "ort-cpu",
    bundle: Annotated[str, typer.Option(help="A bundle's folder or name.")] = "shapes",
    sample: Annotated[int, typer.Option(help="Pictures that are made again, one at a time.")] = 20,
    batch: Annotated[int, typer.Option(help="Pictures that a maker makes together.")] = 16,
) -> None:
    session = SessionOptions(backend=backend, max_batch=batch, threads=1)
    parameters = {"seed": 1, "steps": 1, "resolution": 64}
    work = Path(tempfile.mkdtemp(prefix="pixrt-ray-gallery-"))
    source, output = work / "in", work / "out"
    pictures(source, count)
    output.mkdir()

    def entries() -> Iterator[Entry]:
        return read_entries([str(source)], INSTRUCTION, parameters, output)

    outcomes: Counter[str] = Counter()
    memory: list[float] = []
    began = time.monotonic()
    with (
        cluster(),
        Editor(bundle, session) as editor,
        Crew(editor, Opening(bundle, session), ShareOptions(replicas=2, replica_cpus=0.5), batch) as crew,
        open_journal(output, {}) as journal,
    ):
        import ray

        gallery = Gallery(crew, output, journal, max_batch=batch)
        victim = ray.get(crew.makers[0].pid.remote())
        for number, outcome in enumerate(gallery.run(entries())):
            outcomes[outcome.state] += 1
            if number == count // 3:
                os.kill(victim, signal.SIGKILL)
                print(f"a maker is killed after {number} pictures")
            if number % max(1, count // 300) == 0:
                memory.append(resident_mib(os.getpid()))
        seconds = time.monotonic() - began
    print(f"{count} pictures in {seconds:.0f} s ({count / seconds:.1f} a second): {dict(outcomes)}")

    lines = [json.loads(line) for line in (output / JOURNAL_NAME).read_text().splitlines()[1:]]
    written = Counter(line["output"] for line in lines)
    files = sum(1 for path in output.rglob("*.png"))
    third = len(memory) // 3
    second, last = statistics.median(memory[third : 2 * third]), statistics.median(memory[2 * third :])
    allowed = GROWTH_MIB + count * LINE_BYTES / 2**20  # the journal knows every picture
    print(f"memory: {second:.0f} MiB in the second third, {last:.0f} MiB in the last")

    single = work / "single"
    single.mkdir()
    different = 0
    with Editor(bundle, session) as editor, open_journal(single, {}) as journal:
        chosen = [entry for number, entry in enumerate(entries()) if number % max(1, count // sample) == 0]
        for outcome in Gallery(editor, single, journal, max_batch=1).run(chosen):
            different += outcome.target.read_bytes() != (output / outcome.entry.target).read_bytes()
    checks = {
        "every picture is done": outcomes == {"done": count} and files == count,
        "nothing was written twice": len(written) == count and set(written.values()) == {1},
        f"{len(chosen)} single edits give the same bytes": not different,
        "memory is flat": last - second <= allowed,
    }
    for words, is_so in checks.items():
        print(f"  {'yes' if is_so else 'NO '}  {words}")
    shutil.rmtree(work)
    if not all(checks.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
