"""What every part of the report is given, and how it tells what it found."""

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent.parent.parent / "tests" / "support"


class NotRun(Exception):
    """A part cannot be run here; the text says what is missing."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One part's run.

    Attributes:
        small: a small bundle that was exported with --fused-step; `full` is a full-size one in FP16.
        dry_run: over the simulated driver, for what does not need the real thing.
        scratch: a folder that is this part's own.
        answer: where what was found is written, at once.
    """

    small: Path | None
    full: Path | None
    dry_run: bool
    scratch: Path
    answer: Path
    steps: int = 20
    found: dict[str, Any] = field(default_factory=dict)

    def tell(self, **found: Any) -> None:
        """Keep what was found, also if the part is cut off afterwards."""
        self.found |= found
        aside = self.answer.with_suffix(".part")
        aside.write_text(json.dumps(self.found, indent=1))
        aside.replace(self.answer)

    def driver(self) -> Any:
        """The simulated driver in a dry run, else None; before anything looks for CUDA."""
        sys.path.insert(0, str(SUPPORT))
        for module in ("pycuda", "cuda"):
            if importlib.util.find_spec(module) is None:
                raise NotRun(f"{module} is not installed")
        if not self.dry_run:
            return None
        from simulated_cuda import load_driver

        return load_driver()

    def needs_gpu(self) -> None:
        """Raise where there is none."""
        if self.dry_run:
            raise NotRun("no GPU")

    def needs(self, *modules: str) -> None:
        """Raise where one is not installed."""
        for module in modules:
            if importlib.util.find_spec(module) is None:
                raise NotRun(f"{module} is not installed")

    def small_bundle(self) -> Path:
        """The small bundle."""
        if self.small is None:
            raise NotRun("no small bundle: give --small")
        return self.small

    def full_bundle(self) -> Path:
        """The full-size bundle."""
        if self.full is None:
            raise NotRun("no full-size bundle: give --full")
        return self.full
