"""`pixrt train`: an autoencoder, an editing model, a LoRA. What is learned and how is in `pixrt_export.training`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pixrt.cli.console import say
from pixrt.cli.display import errors
from pixrt.cli.extras import require_packages
from pixrt.cli.parameters import example, with_flags
from pixrt.cli.stopping import asking_first
from pixrt.errors import Cancelled
from pixrt_export.data.options import SetOptions
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions, LoopOptions, LoraOptions

if TYPE_CHECKING:
    from pixrt_export.training.loop import Preview, StepReport
    from pixrt_export.training.plan import TrainingPlan
    from pixrt_export.training.run import Stage

_NEEDED = ("torch", "diffusers", "transformers", "accelerate", "peft", "tensorboard", "matplotlib")

train = typer.Typer(name="train", no_args_is_help=True, help="Train an autoencoder, an editing model or a LoRA.")

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="PATH", help="The run's folder; a run that is there goes on.")
]
Config = Annotated[Path | None, typer.Option(metavar="PATH", help="A TOML file; flags come before what it says.")]
Checkpoint = Annotated[str | None, typer.Option(metavar="TEXT", help="The diffusers-format model to start from.")]
Data = Annotated[
    str | None, typer.Option(metavar="TEXT", help="A folder of pairs, see `pixrt data check`; else the config's.")
]


def _command(stage: "Stage", kind: type[LoopOptions]) -> Callable[..., None]:
    """The command of one stage: a flag for every field of its options, besides where to and out of what."""

    @with_flags(kind)
    @with_flags(SetOptions, "reading")
    def command(
        output: Output,
        config: Config = None,
        checkpoint: Checkpoint = None,
        data: Data = None,
        *,
        reading: dict[str, Any],
        parameters: dict[str, Any],
    ) -> None:
        require_packages(*_NEEDED, extra="train", purpose="training")
        from pixrt_export.training.plan import read_plan

        plan = read_plan(
            kind, output, config=config, checkpoint=checkpoint, data=data, data_flags=reading, flags=parameters
        )
        _run(stage, plan)

    return command


def _run(stage: "Stage", plan: "TrainingPlan[Any]") -> None:
    from pixrt_export.training.run import run_stage

    with (
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=errors,
        ) as progress,
        asking_first() as should_stop,
    ):
        observer = ProgressObserver(progress, should_stop)
        result = run_stage(stage, plan, observer)
    if result is None:
        raise Cancelled(f"stopped after step {observer.step}", remedy="The same command goes on from there")
    say(result)


class ProgressObserver:
    """What a person sees of a run: a bar with loss, learning rate, samples per second and the time left.

    On what is not a terminal, a line every hundred steps.
    """

    def __init__(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        self._progress, self._should_stop = progress, should_stop
        self._task: TaskID | None = None
        self.step = 0

    def encoded(self, done: int, total: int) -> None:
        """The latents before the first step."""
        self._show("encoding", done, total, "")

    def started(self, step: int, steps: int) -> None:
        """A new bar."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self.step = step
        self._show("training", step, steps, "")

    def stepped(self, report: "StepReport") -> None:
        """One more step."""
        self.step = report.step
        assert self._task is not None
        speed = self._progress.tasks[0].speed or 0.0
        facts = f"loss {report.loss:.4f}  lr {report.learning_rate:.1e}  {speed * report.samples:.1f} samples/s"
        facts += f"  data {report.data_s:.2f} s, passes {report.passes_s:.2f} s, optimiser {report.optimizer_s:.2f} s"
        self._progress.update(self._task, completed=report.step, facts=facts)
        if not errors.is_terminal and report.step % 100 == 0:
            errors.print(f"step {report.step}: {facts}")

    def sampled(self, step: int, preview: "Preview") -> None:
        """What was measured on the samples."""
        if preview.metrics:
            self._progress.console.print(
                f"step {step}: " + ", ".join(f"{k} {v:.3f}" for k, v in preview.metrics.items())
            )

    def saved(self, step: int, folder: Path) -> None:
        """Nothing to see."""

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._should_stop()

    def _show(self, what: str, done: int, total: int, facts: str) -> None:
        if self._task is None:
            self._task = self._progress.add_task(what, facts=facts)
        self._progress.update(self._task, description=what, completed=done, total=total)


train.command(
    "autoencoder",
    help="Train the autoencoder of a model, new or given, on the edited pictures of a training set.",
    epilog=example("pixrt train autoencoder --config run.toml -o runs/vae"),
)(_command("train_autoencoder", AutoencoderOptions))
train.command(
    "edit",
    help="Teach a model to edit: InstructPix2Pix training of a text-to-image model, or more of an editing one.",
    epilog=example("pixrt train edit --checkpoint stable-diffusion-v1-5 --data pairs -o runs/edit"),
)(_command("train_edit", EditTrainingOptions))
train.command(
    "lora",
    help="Train a LoRA for an editing model; the result is a safetensors file in diffusers' format.",
    epilog=example("pixrt train lora --checkpoint instruct-pix2pix --data border -o runs/border --rank 16"),
)(_command("train_lora", LoraOptions))
