"""The budget of counted work, `counted.toml`: calls and rows, allocations, files read and hashed, modules imported.

A busy machine changes none of it. More than the budget is a regression; less is a gain, which the budget must tell.
"""

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counting import EDITS, STATE_BYTES, count_edit, count_process
from pixrt.core.pool import HostPool

BUDGET: dict[str, Any] = tomllib.loads(Path(__file__).with_name("counted.toml").read_text(encoding="utf-8"))


def test_every_edit_has_a_budget() -> None:
    assert list(BUDGET["edits"]) == list(EDITS)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_asks_for_its_budget(name: str, tmp_path: Path) -> None:
    assert count_edit(name, tmp_path) == BUDGET["edits"][name]


def test_a_step_that_allocates_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = HostPool.step

    def wasteful(pool: HostPool, slots: Any = None) -> list[int]:
        np.ones(STATE_BYTES, np.uint8)
        return step(pool, slots)

    monkeypatch.setattr(HostPool, "step", wasteful)
    assert count_edit("exact", tmp_path)["allocating"] == 6


def test_a_process_reads_and_imports_its_budget(tmp_path: Path) -> None:
    """The first process hashes every file once, the next one nothing; neither reads what it does not need."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for when in ("first", "later"):
        counted = count_process(tmp_path / "out.png", environment)
        assert counted["hashed"] == BUDGET[when]["hashed"], when
        assert counted["opened"] == BUDGET[when]["opened"], when
    assert counted["packages"] == BUDGET["imports"]["packages"]
    assert counted["modules"] == BUDGET["imports"]["pixrt"]
