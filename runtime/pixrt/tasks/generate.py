"""Text-to-image; an edit checkpoint does it with source latents of zero. Must not import a backend."""

from pixrt.core.conditioning import Conditioning
from pixrt.tasks.task import Task, TaskInputs


def _condition(given: TaskInputs) -> Conditioning:
    return Conditioning(given.contexts)


GENERATE = Task(("generate", "edit"), _condition)
