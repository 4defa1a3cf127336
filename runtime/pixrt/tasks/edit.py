"""Instruction edits (InstructPix2Pix), of the whole picture or of what a mask selects. Must not import a backend."""

from pixrt.core.conditioning import Conditioning
from pixrt.tasks.task import Task, TaskInputs


def _condition(given: TaskInputs) -> Conditioning:
    source = given.encode(given.picture)
    return Conditioning(given.contexts, given.beside(source), anchor=given.outside(source))


EDIT = Task(("edit",), _condition)
