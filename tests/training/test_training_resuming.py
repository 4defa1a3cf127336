"""A training run that is interrupted and goes on."""

from pathlib import Path
from typing import Any

import pytest

from pixrt.errors import TrainingError
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions
from tiny_training import Silent, plan_of, train, weights_of

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch


class TestResuming:
    """The same weights, bit for bit, whatever interrupted the run."""

    @pytest.mark.parametrize("stops", [(1, 2, 3, 4, 5), (3,)])
    def test_after_polite_stops(
        self, first_stage: Path, second_stage: Path, tmp_path: Path, stops: tuple[int, ...]
    ) -> None:
        plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage), train_text_encoder=True)
        for stop in stops:
            observer = Silent(stop_at=stop)
            assert train("train_edit", plan, observer) is None
            assert observer.saves[-1] == stop
        last = Silent()
        result = train("train_edit", plan, last)
        assert last.first == stops[-1]
        assert result is not None
        self.same(result, second_stage)

    def test_after_a_failure_between_checkpoints(self, first_stage: Path, second_stage: Path, tmp_path: Path) -> None:
        class Failing(Silent):
            def stepped(self, report: Any) -> None:
                super().stepped(report)
                if report.step == 5:
                    raise KeyboardInterrupt

        plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage), train_text_encoder=True)
        with pytest.raises(KeyboardInterrupt):
            train("train_edit", plan, Failing())
        last = Silent()
        result = train("train_edit", plan, last)
        assert last.first == 4  # the newest checkpoint: every second step
        assert result is not None
        self.same(result, second_stage)
        rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == 6

    @staticmethod
    def same(result: Path, expected: Path) -> None:
        left, right = weights_of(result), weights_of(expected)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)

    def test_the_new_model_follows_from_the_seed(self, first_stage: Path, tmp_path: Path) -> None:
        again = train("train_autoencoder", plan_of(AutoencoderOptions, tmp_path / "same"))
        other = train("train_autoencoder", plan_of(AutoencoderOptions, tmp_path / "other", seed=1))
        assert again is not None
        assert other is not None
        self.same(again, first_stage)
        assert not all(
            torch.equal(a, b) for a, b in zip(weights_of(other).values(), weights_of(first_stage).values(), strict=True)
        )

    def test_other_options_are_refused(self, first_stage: Path, tmp_path: Path) -> None:
        train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage)), Silent(stop_at=1))
        with pytest.raises(TrainingError, match=r"learning_rate = 0\.001, now it is 0\.5"):
            train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage), learning_rate=0.5))
        # How long it goes on is free.
        assert train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage), steps=2)) is not None

    def test_one_run_at_a_time(self, first_stage: Path, tmp_path: Path) -> None:
        class Second(Silent):
            def stepped(self, report: Any) -> None:
                with pytest.raises(TrainingError, match="another process trains"):
                    train("train_edit", plan)
                super().stepped(report)

        plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage), steps=1)
        assert train("train_edit", plan, Second()) is not None

    def test_a_damaged_checkpoint_is_named(self, first_stage: Path, tmp_path: Path) -> None:
        plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage))
        train("train_edit", plan, Silent(stop_at=2))
        (tmp_path / "checkpoints" / "step-00000002" / "weights.safetensors").write_bytes(b"\0" * 100)
        with pytest.raises(TrainingError, match="step-00000002 cannot be read"):
            train("train_edit", plan)
