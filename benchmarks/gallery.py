"""A gallery of mixed sizes with broken files: edited by `pixrt batch`, killed and resumed, held against single edits.

    python benchmarks/gallery.py FOLDER

prints how many results equal `Editor.edit`'s byte for byte, the throughput beside loops of single calls of the command
and of the API, and the memory over the run; it ends with 1 where a result differs or a broken file is not reported.
"""

import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from pixrt.apps.journal import JOURNAL_NAME
from pixrt.editor.editor import Editor

SIZES = ((64, 64), (64, 64), (80, 64), (64, 96), (48, 64), (100, 75))
SUFFIXES = (".png", ".jpg", ".webp")
SCENES = Path(__file__).parent.parent / "examples"
INSTRUCTION = "make the background blue"
SEED = 3


def draw_gallery(folder: Path, count: int, broken: int) -> set[str]:
    """Pictures in two folders; `broken` of them cut short, whose names are returned."""
    draw = random.Random(0)
    base = [Image.open(SCENES / name).convert("RGB") for name in ("scene.png", "scene-green.png")]
    bad = set(draw.sample(range(count), broken))
    names = set()
    for number in range(count):
        picture = base[number % 2].rotate(90 * (number % 4)).resize(draw.choice(SIZES))
        shifted = np.clip(np.asarray(picture).astype(int) + draw.randint(-40, 40), 0, 255).astype(np.uint8)
        path = folder / f"part{number % 2}" / f"{number:05d}{draw.choice(SUFFIXES)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shifted).save(path)
        if number in bad:
            path.write_bytes(path.read_bytes()[: draw.choice((0, 40, 200))])
            names.add(str(path))
    return names


def command(gallery: Path, output: Path, steps: int, *more: str) -> list[str]:
    words = [
        "batch",
        "-b",
        "shapes",
        str(gallery),
        INSTRUCTION,
        "-o",
        str(output),
        "--steps",
        str(steps),
        "--seed",
        str(SEED),
    ]
    return [sys.executable, "-m", "pixrt", *words, "--quiet", *more]


def begin(gallery: Path, output: Path, steps: int) -> "subprocess.Popen[bytes]":
    words = command(gallery, output, steps)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Memory:
    """Resident memory of a process in MiB, over the lines of the journal that it had written by then."""

    def __init__(self, process: "subprocess.Popen[bytes]", journal: Path) -> None:
        self._process, self._journal = process, journal
        self.samples: list[tuple[int, float]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._process.poll() is None:
            try:
                pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
                lines = self._journal.read_bytes().count(b"\n")
            except (OSError, IndexError, ValueError):
                lines = 0
            if lines:
                self.samples.append((lines, pages * 4096 / 2**20))
            time.sleep(0.2)


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def main(
    folder: Annotated[Path, typer.Argument(help="Where the gallery and the results go; emptied first.")],
    count: Annotated[int, typer.Option(help="Pictures.")] = 1000,
    broken: Annotated[int, typer.Option(help="Of them cut short.")] = 20,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 4,
    singles: Annotated[int, typer.Option(help="Single calls of the command that are timed.")] = 10,
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    gallery, output = folder / "gallery", folder / "results"
    bad = draw_gallery(gallery, count, broken)
    journal = output / JOURNAL_NAME
    kills = 0
    for share in (0.3, 0.6):
        process = begin(gallery, output, steps)
        while lines_of(journal) < share * count and process.poll() is None:
            time.sleep(0.05)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"killed with {lines_of(journal) - 1} of {count} in the journal")
    done = subprocess.run(command(gallery, output, steps), capture_output=True, text=True)
    rows = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    reported = {row["input"] for row in rows if row["state"] == "failed"}
    good = sorted(str(path) for path in gallery.rglob("*.*") if str(path) not in bad)
    equal = compare(good, gallery, output, steps)
    print(f"resumed: exit status {done.returncode}, {len(reported)} reported, {equal} of {len(good)} results equal")
    print_throughput(folder, gallery, good, steps, singles)
    whole = kills == 2 and reported == bad and equal == len(good) and done.returncode == 1
    raise typer.Exit(0 if whole else 1)


def compare(good: list[str], gallery: Path, output: Path, steps: int) -> int:
    """How many results are what a single edit writes, byte for byte."""
    equal = 0
    with Editor("shapes") as editor:
        for name in good:
            target = output / Path(name).relative_to(gallery)
            alone = target.with_name(f"alone-{target.name}")
            editor.edit(name, INSTRUCTION, steps=steps, seed=SEED).save(alone)
            equal += target.is_file() and alone.read_bytes() == target.read_bytes()
            alone.unlink()
    return equal


def print_throughput(folder: Path, gallery: Path, good: list[str], steps: int, singles: int) -> None:
    """A whole run without a kill, single calls of the API over as many pictures, and of the command."""
    output = folder / "again"
    started = time.perf_counter()
    process = begin(gallery, output, steps)
    memory = Memory(process, output / JOURNAL_NAME)
    process.wait()
    rate = len(good) / (time.perf_counter() - started)
    chosen = good[:: max(1, len(good) // 200)]
    started = time.perf_counter()
    with Editor("shapes") as editor:
        for number, name in enumerate(chosen):
            editor.edit(name, INSTRUCTION, steps=steps, seed=SEED).save(folder / f"single{number}.png")
    api = len(chosen) / (time.perf_counter() - started)
    seconds = []
    for name in good[:singles]:
        started = time.perf_counter()
        words = ["edit", "-b", "shapes", name, INSTRUCTION, "-o", str(folder / "one.png"), "--overwrite"]
        words += ["--steps", str(steps), "--seed", str(SEED)]
        subprocess.run([sys.executable, "-m", "pixrt", *words], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    cli = 1 / statistics.median(seconds)
    print(f"pictures a second: batch {rate:.2f}, single API calls {api:.2f} ({rate / api:.2f} times as many),", end=" ")
    print(f"single commands {cli:.2f} ({rate / cli:.2f} times)")
    print(memory_line(memory.samples))


def memory_line(samples: list[tuple[int, float]]) -> str:
    """The memory in the second and in the last fifth of the journal's lines."""
    last = samples[-1][0]
    early: Any = [mib for lines, mib in samples if 0.2 * last <= lines < 0.4 * last]
    late: Any = [mib for lines, mib in samples if lines >= 0.8 * last]
    return f"memory: {statistics.median(early):.0f} MiB after a fifth, {statistics.median(late):.0f} MiB at the end"


if __name__ == "__main__":
    typer.run(main)
