"""Running a stage in its folder. Imports PyTorch when a run starts, not before."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pixrt_export.beforehand import require_training_paths
from pixrt_export.training.plan import TrainingPlan
from pixrt_export.training.run_folder import run_folder

if TYPE_CHECKING:
    from pixrt_export.training.loop import Observer

Stage = Literal["train_autoencoder", "train_edit", "train_lora"]


def run_stage(stage: Stage, plan: TrainingPlan[Any], observer: "Observer") -> Path | None:
    """Run one stage in its folder, from where it stopped; the result's path, or None if the observer stopped it.

    Writes metrics, samples and the plot besides telling the observer. Raises TrainingError, CheckpointError, DataError,
    PictureError, OptionError and OutputError; the newest checkpoint is kept.
    """
    from pixrt_export.quiet import quiet_libraries

    require_training_paths(plan.checkpoint, plan.data.folder, plan.output)
    quiet_libraries()
    from accelerate import PartialState

    from pixrt_export.training import stages
    from pixrt_export.training.log import RunLog
    from pixrt_export.training.plots import plot_run

    main = PartialState().is_main_process
    with run_folder(plan) if main else nullcontext(), RunLog(plan.output, observer) as log:
        result: Path | None = getattr(stages, stage)(plan, log)
        if main:
            plot_run(plan.output)
    return result
