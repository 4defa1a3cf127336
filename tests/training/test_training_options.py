"""What a training run is told, and what follows from its seed."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.errors import OptionError
from pixrt_export.training.options import EditTrainingOptions, LoopOptions, LoraOptions, learning_rate
from pixrt_export.training.order import samples_of, seed_of
from pixrt_export.training.plan import read_plan

pytestmark = pytest.mark.torch


class TestOrder:
    @given(st.integers(0, 2**40), st.integers(1, 50), st.integers(0, 500), st.integers(1, 120))
    def test_every_pass_sees_every_sample_once(self, seed: int, count: int, first: int, number: int) -> None:
        whole = samples_of(seed, count, 0, first + number)
        assert samples_of(seed, count, first, number) == whole[first:]
        for start in range(0, len(whole) - count + 1, count):
            assert sorted(whole[start : start + count]) == list(range(count))

    def test_passes_differ(self) -> None:
        order = samples_of(0, 100, 0, 200)
        assert order[:100] != order[100:]

    def test_every_place_has_its_own_seed(self) -> None:
        seeds = Counter(seed_of(7, step, k, process) for step in range(50) for k in range(3) for process in range(3))
        assert len(seeds) == 450
        assert max(seeds) < 2**63


class TestOptions:
    def test_the_learning_rate_rises_and_falls(self) -> None:
        options = LoopOptions(steps=110, warmup_steps=10, learning_rate=1.0, decay="cosine")
        rates = [learning_rate(options, step) for step in range(110)]
        assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
        # Half a cosine, at its quarters.
        assert [rates[10], rates[35], rates[60], rates[85]] == pytest.approx(
            [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4]
        )

    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            (LoopOptions, {"steps": 0}),
            (LoopOptions, {"learning_rate": -1.0}),
            (LoopOptions, {"ema_decay": 1.0}),
            (LoopOptions, {"mixed_precision": "int8"}),
            (EditTrainingOptions, {"drop_text": 0.6, "drop_image": 0.6}),
            (LoraOptions, {"rank": 0}),
            (LoraOptions, {"targets": "convolutions"}),
        ],
    )
    def test_what_cannot_be_is_refused(self, kind: type[Any], wrong: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match=next(iter(wrong))):
            kind(**wrong)

    def test_flags_come_before_the_file(self, tmp_path: Path) -> None:
        config = tmp_path / "run.toml"
        config.write_text('checkpoint = "there"\n[training]\nsteps = 7\nlearning_rate = 1\n[data]\nsize = 32\n')
        plan = read_plan(LoraOptions, tmp_path, config=config, data="pairs", flags={"steps": 9})
        assert (plan.training.steps, plan.training.learning_rate, plan.training.rank) == (9, 1, 16)
        assert (plan.data.folder, plan.data.size, plan.checkpoint) == ("pairs", 32, "there")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[training]\nstep = 7", "step"),
            ('[training]\nsteps = "7"', "steps"),
            ("[training]\nsteps = true", "steps"),
            ("[model]\n", "model"),
            ("[training", "cannot read"),
            ("[training]\nsteps = 7", "no model to start from"),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path: Path, text: str, problem: str) -> None:
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(OptionError, match=problem):
            read_plan(LoopOptions, tmp_path, config=tmp_path / "run.toml")
