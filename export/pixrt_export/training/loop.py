"""The training loop, one for every kind of training: resumable bit for bit, and it leaves whole checkpoints behind.

A `Job` says what is learned; the loop owns steps, optimiser, averaged weights, checkpoints and failures. It prints
nothing: it reports to an `Observer`.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list
from PIL import Image
from torch import nn

from pixrt.errors import OptionError, TrainingError
from pixrt_export.checkpoint import is_out_of_memory
from pixrt_export.training.ema import AveragedWeights, copy_into, trainable
from pixrt_export.training.options import LoopOptions, learning_rate
from pixrt_export.training.order import samples_of, seed_of
from pixrt_export.training.state import State, checkpoints, load_state, save_state


@dataclass(frozen=True, slots=True)
class Preview:
    """What a network does: a grid of samples, and what was measured on them, such as `edit_accuracy`."""

    picture: Image.Image
    metrics: dict[str, float] = field(default_factory=dict)


class Job(Protocol):
    """What is learned, from what."""

    @property
    def network(self) -> nn.Module:
        """What is trained: its parameters that require a gradient."""
        ...

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def load(self, samples: Sequence[int]) -> Any:
        """Read the samples of one forward pass; called ahead of time, in a thread."""
        ...

    def loss(self, network: nn.Module, batch: Any, generator: torch.Generator) -> torch.Tensor:
        """The loss of one forward pass, a scalar. Everything random comes from the generator."""
        ...

    def preview(self) -> Preview:
        """What the network does now (in eval mode, without gradients)."""
        ...


@dataclass(frozen=True, slots=True)
class StepReport:
    """One finished step: its number from 1, the mean loss of its forward passes, the learning rate and the speed.

    Seconds are what the step waited for data, its forward and backward passes, and the optimiser with the averaging;
    on a GPU, which runs behind, they are when the work was given to it.
    """

    step: int
    loss: float
    learning_rate: float
    samples: int
    data_s: float = 0.0
    passes_s: float = 0.0
    optimizer_s: float = 0.0


class Observer(Protocol):
    """Who is told. Only the main process reports."""

    def encoded(self, done: int, total: int) -> None:
        """Before the first step: `done` of `total` samples have their latents."""
        ...

    def started(self, step: int, steps: int) -> None:
        """The run goes on after `step` of `steps`, 0 at its start."""
        ...

    def stepped(self, report: StepReport) -> None:
        """One step is done."""
        ...

    def sampled(self, step: int, preview: Preview) -> None:
        """A preview was made after `step`."""
        ...

    def saved(self, step: int, folder: Path) -> None:
        """A checkpoint was written."""
        ...

    def should_stop(self) -> bool:
        """Whether to save and leave after this step (Ctrl-C)."""
        ...


def train(job: Job, options: LoopOptions, folder: Path, observer: Observer) -> bool:
    """Train from the newest checkpoint in `folder`, or from the start, to `options.steps`.

    At the end the network holds the averaged weights. Returns False if the observer stopped the run before its end;
    a checkpoint is written then too.

    Raises TrainingError (a loss that is not finite, no memory, a checkpoint of another network), OutputError (disk
    full) and what `job.load` raises; the newest checkpoint is kept.
    """
    try:
        with torch.enable_grad():  # a caller that only runs networks may have turned gradients off
            return _Run(job, options, folder, observer).go()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"no memory for batch_size {options.batch_size}",
            remedy="Lower batch_size and raise accumulate by as much; the newest checkpoint is kept",
        ) from error


class _Run:
    """The state of one call of `train`."""

    def __init__(self, job: Job, options: LoopOptions, folder: Path, observer: Observer) -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)
        # It would only slow every allocation down: nothing here reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.job, self.options, self.folder, self.observer = job, options, folder, observer
        plugin = GradientAccumulationPlugin(options.accumulate, sync_with_dataloader=False)
        try:
            self.accelerator = Accelerator(mixed_precision=options.mixed_precision, gradient_accumulation_plugin=plugin)
        except ValueError as error:  # such as FP16 without a GPU
            raise OptionError(
                f"mixed_precision is {options.mixed_precision}: {error}", remedy="Use bf16, or no"
            ) from error
        # The order in memory that convolutions are fastest in: a quarter less time on a CPU with BF16.
        job.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stubs lack it
        parameters = [parameter for _, parameter in trainable(job.network)]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        self.network, self.stepper = self.accelerator.prepare(job.network, self.optimizer)
        self.average = AveragedWeights(job.network, options.ema_decay)
        self.step = self.resume()

    def go(self) -> bool:
        options, main = self.options, self.accelerator.is_main_process
        if main:
            self.observer.started(self.step, options.steps)
        self.network.train()
        with ThreadPoolExecutor(1) as reader:
            ahead = self.read(reader, self.step)
            while self.step < options.steps:
                batches, ahead = ahead, self.read(reader, self.step + 1)
                began = time.perf_counter()
                given = [batch.result() for batch in batches]
                read = time.perf_counter()
                loss, passes_s = self.one_step(given)
                self.average.update(self.job.network, self.step)
                rest_s = time.perf_counter() - read - passes_s
                self.step += 1
                if main:
                    rate = learning_rate(options, self.step - 1)
                    self.observer.stepped(
                        StepReport(self.step, loss, rate, self.samples_per_step, read - began, passes_s, rest_s)
                    )
                stop = self.stopping()
                if main and (stop or self.step % options.checkpoint_every == 0 or self.step == options.steps):
                    self.observer.saved(self.step, save_state(self.folder, self.state(), options.keep_checkpoints))
                if main and options.sample_every and self.step % options.sample_every == 0:
                    self.preview()
                if stop:
                    break
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        copy_into(self.job.network, self.average.tensors)
        self.job.network.eval()
        return self.step == options.steps

    @property
    def samples_per_step(self) -> int:
        processes: int = self.accelerator.num_processes
        return self.options.batch_size * self.options.accumulate * processes

    def read(self, reader: ThreadPoolExecutor, step: int) -> list[Future[Any]]:
        """Start to read what this process needs for step `step`: one batch for each forward pass."""
        if step >= self.options.steps:
            return []
        size = self.options.batch_size
        first = step * self.samples_per_step + self.accelerator.process_index * size * self.options.accumulate
        return [
            reader.submit(self.job.load, samples_of(self.options.seed, len(self.job), first + k * size, size))
            for k in range(self.options.accumulate)
        ]

    def one_step(self, batches: list[Any]) -> tuple[float, float]:
        """Forward and backward for every batch, then one step of the optimiser; mean loss, seconds of the passes."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.options, self.step)
        total, passes_s = torch.zeros((), device=self.accelerator.device), 0.0
        for k, batch in enumerate(batches):
            place = seed_of(self.options.seed, self.step, k, self.accelerator.process_index)
            torch.manual_seed(place)  # for dropout inside the network
            began = time.perf_counter()
            with self.accelerator.accumulate(self.network):
                loss = self.job.loss(self.network, batch, torch.Generator().manual_seed(place))
                self.accelerator.backward(loss)
                passes_s += time.perf_counter() - began
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), self.options.max_grad_norm)
                self.stepper.step()
                self.stepper.zero_grad()
            total += loss.detach() / len(batches)
        mean = float(self.accelerator.reduce(total, "mean"))
        if not math.isfinite(mean):
            raise TrainingError(
                f"the loss of step {self.step + 1} is {mean} at learning rate {learning_rate(self.options, self.step)}",
                remedy="Lower learning_rate or use mixed_precision no; the newest checkpoint is kept",
            )
        return mean, passes_s

    def preview(self) -> None:
        """Report a grid of samples made with the averaged weights."""
        self.job.network.eval()
        with self.average.in_place_of(self.job.network), torch.no_grad():
            preview = self.job.preview()
        self.job.network.train()
        self.observer.sampled(self.step, preview)

    def stopping(self) -> bool:
        """Whether to leave, the same answer in every process."""
        answer = [self.observer.should_stop()]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(answer)
        return answer[0]

    def state(self) -> State:
        """All there is to write down."""
        optimizer = {}
        for name, parameter in trainable(self.job.network):
            for key, tensor in self.optimizer.state[parameter].items():
                optimizer[f"{name}/{key}"] = tensor
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {}
        weights = {name: parameter.detach() for name, parameter in trainable(self.job.network)}
        return State(self.step, weights, self.average.tensors, optimizer, scaler)

    def resume(self) -> int:
        """Take up the newest checkpoint; the number of steps it has behind it, 0 without one."""
        saved = checkpoints(self.folder)
        if not saved:
            return 0
        state = load_state(saved[-1])
        parameters = dict(trainable(self.job.network))
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        if {name: tensor.shape for name, tensor in state.weights.items()} != shapes:
            raise TrainingError(
                f"the checkpoint {saved[-1]} is of another network: {len(state.weights)} tensors for "
                f"{len(parameters)} parameters, or of other shapes",
                remedy="Give another run folder with -o, or the configuration this run was started with",
            )
        copy_into(self.job.network, state.weights)
        device = self.accelerator.device
        self.average.tensors = {name: tensor.to(device) for name, tensor in state.averaged.items()}
        for key, tensor in state.optimizer.items():
            name, _, moment = key.rpartition("/")
            # In the parameter's own order in memory: the fused optimiser goes through both side by side.
            order = torch.empty_like(parameters[name]) if tensor.dim() else tensor
            self.optimizer.state[parameters[name]][moment] = order.copy_(tensor).to(device)
        if state.scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        return state.step
