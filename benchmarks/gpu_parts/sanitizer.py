"""The device loop once more under compute-sanitizer: accesses beyond what was allocated, and leaks of the driver's."""

import shutil
import subprocess
import sys
from pathlib import Path

from gpu_parts.session import NotRun, Session

_SCRIPT = Path(__file__).parent.parent / "gpu_report.py"


def run(session: Session) -> None:
    """The parts `driver` and `loop`, the latter with few steps."""
    session.needs_gpu()
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise NotRun("there is no compute-sanitizer on PATH")
    for part in ("driver", "loop"):
        # pycuda asks for what may be refused, such as an attribute of a newer driver: that is no fault of the device's.
        command = [program, "--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9", sys.executable]
        command += [str(_SCRIPT), "--part", part, "--steps", "3", "--answer", str(session.scratch / f"{part}.json")]
        command += ["--scratch", str(session.scratch / part)]
        command += ["--small", str(session.small)] if session.small else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        summary = [line for line in lines if "ERROR SUMMARY" in line]
        session.tell(**{part: {"exit": done.returncode, "summary": summary, "end": lines[-15:]}})
        assert done.returncode == 0, f"{part} ended with {done.returncode}: {' '.join(summary) or lines[-1:]}"
