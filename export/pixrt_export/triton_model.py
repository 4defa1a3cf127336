"""What Triton's Python backend runs: a bundle of pixrt, by the tensors and parameters of pixrt's own KServe interface.

`pixrt export --triton` copies this file beside the bundle. It needs pixrt where Triton's Python is, and nothing else.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found]  # Triton's own, there only

from pixrt import Editor, PixrtError
from pixrt.editor.events import Failed, Made
from pixrt.editor.result import EditResult
from pixrt.errors import OptionError, PictureError
from pixrt.options.parsing import parse_all
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.tasks.jobs import Job
from pixrt.tasks.requests import Request

PICTURES = {"IMAGE": "image", "MASK": "mask", "STYLE": "style"}  # what each tensor is in a job
FORMATS = ("png", "jpeg", "webp")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one request of Triton's asks for: a picture for each element of its batch."""

    requests: Sequence[Request]
    format: str


class TritonPythonModel:
    """See the module. Triton makes one, and calls its methods one after another."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle beside this file. Its settings are the parameters of config.pbtxt."""
        config = json.loads(args["model_config"])
        settings = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        bundle = Path(args["model_repository"]) / args["model_version"] / "bundle"
        # Triton's batches are as large as the configuration says, and so is the pool.
        self._editor = Editor(bundle, backend=settings["backend"], max_batch=config["max_batch_size"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Make the pictures of all requests together; one that fails, or is wrong, fails its own request."""
        wanted = [self._read(request) for request in requests]
        together, owners = list[Request](), list[tuple[int, int]]()
        for place, each in enumerate(wanted):
            for at, request in enumerate(each.requests if isinstance(each, Wanted) else ()):
                together.append(replace(request, index=len(together)))
                owners.append((place, at))
        made: list[dict[int, EditResult]] = [{} for _ in wanted]
        errors: list[PixrtError | None] = [None if isinstance(each, Wanted) else each for each in wanted]
        with self._editor.events(together, steps=False) as events:
            for event in events:
                if isinstance(event, Made | Failed):
                    place, at = owners[event.index]
                    if isinstance(event, Made):
                        made[place][at] = event.result
                    else:
                        errors[place] = event.error
        return [self._answer(*each) for each in zip(wanted, made, errors, strict=True)]

    def finalize(self) -> None:
        """Give back what the device holds."""
        self._editor.close()

    def _read(self, request: Any) -> "Wanted | PixrtError":
        """What a request asks for, checked; what is wrong with it instead."""
        try:
            given = json.loads(request.parameters() or "{}")
            format = given.pop("output_format", "png")
            if format not in FORMATS:
                raise OptionError(f"output_format is {format!r:.40}", remedy=f"Use one of {', '.join(FORMATS)}")
            jobs = list(self._jobs(request, given))
            return Wanted(self._editor.check(jobs), format)
        except PixrtError as error:
            return error

    def _jobs(self, request: Any, given: dict[str, Any]) -> Iterator[Job]:
        """A job for each element of the batch; seeds count up from the one that is given."""
        task = given.pop("task", self._editor.manifest.task)
        if task not in TASK_OPTIONS:
            raise OptionError(f"task is {task!r:.40}", remedy=f"Use one of {', '.join(TASK_OPTIONS)}", option="task")
        texts = _column(request, "INSTRUCTION")
        if texts is None:
            raise OptionError("there is no INSTRUCTION", remedy="Give it, BYTES [N, 1]", option="text")
        columns = {name: _column(request, tensor) for tensor, name in PICTURES.items()}
        for tensor, name in PICTURES.items():
            if (column := columns[name]) is not None and len(column) != len(texts):
                problem = f"{tensor} has {len(column)} elements, and INSTRUCTION {len(texts)}"
                raise OptionError(problem, remedy="Give as many of each", option=name)
        for place, text in enumerate(texts):
            options = TASK_OPTIONS[task](**parse_all(TASK_OPTIONS[task], given))
            if options.seed is not None:
                options = replace(options, seed=options.seed + place)
            pictures: dict[str, Any] = {name: column[place] for name, column in columns.items() if column is not None}
            yield Job(options=options, text=text.decode("utf-8", "replace"), **pictures)

    def _answer(self, wanted: "Wanted | PixrtError", made: Mapping[int, EditResult], error: PixrtError | None) -> Any:
        if error is not None or not isinstance(wanted, Wanted):
            return triton.InferenceResponse(error=_told(error))
        results = [made[at] for at in range(len(wanted.requests))]
        try:
            files: list[bytes] = [result.to_bytes(wanted.format) for result in results]  # type: ignore[arg-type]
        except PixrtError as failed:
            return triton.InferenceResponse(error=_told(failed))
        infos = [json.dumps({**result.parameters, "backend": self._editor.backend}).encode() for result in results]
        return triton.InferenceResponse(
            output_tensors=[
                triton.Tensor("IMAGE", np.array(files, np.object_).reshape(-1, 1)),
                triton.Tensor("SEED", np.array([result.seed for result in results], np.int64).reshape(-1, 1)),
                triton.Tensor("INFO", np.array(infos, np.object_).reshape(-1, 1)),
            ]
        )


def _column(request: Any, name: str) -> list[bytes] | None:
    """A tensor's elements; None if the request does not have it."""
    tensor = triton.get_input_tensor_by_name(request, name)
    return None if tensor is None else [bytes(each) for each in tensor.as_numpy().reshape(-1)]


def _told(error: PixrtError | None) -> Any:
    """What a client is told: what is wrong with its request; of a fault of the server's no more than its kind."""
    if isinstance(error, OptionError | PictureError):
        return triton.TritonError(str(error), triton.TritonError.INVALID_ARG)
    return triton.TritonError(f"the picture failed ({type(error).__name__})", triton.TritonError.INTERNAL)
