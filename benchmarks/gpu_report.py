"""Thirty minutes on an NVIDIA GPU: what there can be known of pixrt, in the order of evidence, in one report.

    python benchmarks/gpu_report.py --small BUNDLE --full BUNDLE --wheels FOLDER
    python benchmarks/gpu_report.py --small BUNDLE --dry-run

docs/gpu-report.md says what to carry and what each part proves. Each part is a process of its own with a time limit,
and what it finds is in the report at once: a part that fails or is cut off stops no other. Parts of an earlier run
stay in the report unless they are run again. `--dry-run` needs no GPU: the simulated driver of the tests is in its
place, and what wants the real thing says so. It ends with 1 if a part failed. Itself it needs only Python.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOT_RUN = 77


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the report: a module of `gpu_parts`, and how long it may take."""

    name: str
    module: str
    limit_s: int


# Half an hour in all.
PARTS = (
    Part("driver", "driver", 60),
    Part("loop", "loop", 300),
    Part("sanitizer", "sanitizer", 300),
    Part("host", "host", 120),
    Part("full-size", "full_size", 420),
    Part("tensorrt", "engines", 540),
)


def parse() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", type=Path, help="a small bundle, exported with --fused-step")
    parser.add_argument("--full", type=Path, help="a full-size bundle, exported with --precision fp16 --fused-step")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install first, without a package index")
    parser.add_argument("--only", help=f"some of {', '.join(part.name for part in PARTS)}, separated by commas")
    parser.add_argument("--steps", type=int, default=20, help="steps of an edit that is measured")
    parser.add_argument("--dry-run", action="store_true", help="over the simulated driver")
    parser.add_argument("--output", "-o", type=Path, default=Path("gpu-report.json"), help="the report, JSON")
    for hidden in ("--part", "--answer", "--scratch"):  # of a part's own process
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser.parse_args()


def environment(site: Path | None) -> dict[str, str]:
    """The variables of a part's process: the source tree, and what was installed of wheels."""
    folders = [ROOT / name for name in ("benchmarks", "tests/support", "runtime", "export", "engines")]
    paths = [*map(str, folders), *([str(site)] if site else []), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


def install(wheels: Path, site: Path) -> None:
    """Put wheels beside what is installed, without an index and without looking for what they need."""
    given = sorted(map(str, wheels.glob("*.whl")))
    if not given:
        sys.exit(f"there are no wheels in {wheels}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*command, *given], check=True)


def run_part(part: Part, given: argparse.Namespace, scratch: Path, site: Path | None) -> dict[str, Any]:
    """One part in a process of its own: how it ended, its seconds, and what it found until then."""
    scratch.mkdir()
    answer = scratch / "answer.json"
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part.name, "--answer", str(answer)]
    command += ["--scratch", str(scratch), "--steps", str(3 if given.dry_run else given.steps)]
    command += ["--dry-run"] if given.dry_run else []
    for name in ("small", "full"):
        path = getattr(given, name)
        command += [f"--{name}", str(path.resolve())] if path else []
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, env=environment(site), capture_output=True, text=True, timeout=part.limit_s, check=False
        )
        ending = {0: "passed", NOT_RUN: "not run"}.get(done.returncode, "failed")
        said = done.stderr.strip()
    except subprocess.TimeoutExpired as error:
        ending = f"cut off after {part.limit_s} s"
        said = error.stderr.decode(errors="replace").strip() if isinstance(error.stderr, bytes) else ""
    made: dict[str, Any] = {"ending": ending, "seconds": round(time.monotonic() - started, 1)}
    if ending != "passed":
        made["why"] = said[-3000:]
    if answer.exists():
        made["found"] = json.loads(answer.read_text())
    return made


def work(given: argparse.Namespace) -> int:
    """A part, in its own process; the exit status says how it ended."""
    from gpu_parts.session import NotRun, Session

    session = Session(
        small=given.small,
        full=given.full,
        dry_run=given.dry_run,
        scratch=Path(given.scratch),
        answer=Path(given.answer),
        steps=given.steps,
    )
    session.scratch.mkdir(exist_ok=True)
    (part,) = (part for part in PARTS if part.name == given.part)
    try:
        importlib.import_module(f"gpu_parts.{part.module}").run(session)
    except NotRun as error:
        print(error, file=sys.stderr)
        return NOT_RUN
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def keep(report: dict[str, Any], output: Path) -> None:
    """Write the report, whole or not at all."""
    aside = output.with_name(f"{output.name}.part")
    aside.write_text(json.dumps(report, indent=1) + "\n")
    aside.replace(output)


def main() -> int:
    """Every part in turn."""
    given = parse()
    if given.part:
        return work(given)
    names = given.only.split(",") if given.only else [part.name for part in PARTS]
    if unknown := set(names) - {part.name for part in PARTS}:
        sys.exit(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in PARTS)}")
    report: dict[str, Any] = {"parts": {}}
    if given.output.exists():
        report = json.loads(given.output.read_text())
        if report.get("dry_run", given.dry_run) != given.dry_run:
            sys.exit(f"{given.output} is of another kind of run: give another --output")
    report |= {"dry_run": given.dry_run, "python": platform.python_version(), "system": platform.platform()}
    failed = False
    with tempfile.TemporaryDirectory(prefix="pixrt-gpu-") as scratch:
        site = None
        if given.wheels:
            site = Path(scratch) / "site"
            install(given.wheels, site)
        for part in PARTS:
            if part.name in names:
                made = run_part(part, given, Path(scratch) / part.name, site)
                report["parts"][part.name] = made
                keep(report, given.output)
                why = made.get("why", "").splitlines()[-1:]
                print(f"{part.name:10} {': '.join([made['ending'], *why])} ({made['seconds']} s)", flush=True)
                failed |= made["ending"] not in ("passed", "not run")
    print(given.output)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
