"""Instruction edits (InstructPix2Pix), of the whole picture or of what a mask selects. Must not import a backend."""

from pixrt.backends.protocol import Array
from pixrt.core.conditioning import Conditioning
from pixrt.tasks.task import Task, TaskInputs, beside_text_and_null, contexts


def edit_conditioning(text: Array, null_text: Array, source: Array) -> Conditioning:
    """An edit of source latents `[C, h, w]`, with the embeddings `[L, D]` of its instruction and negative prompt."""
    return Conditioning(contexts(text, null_text), beside_text_and_null(source))


def _condition(given: TaskInputs) -> Conditioning:
    source = given.encode(given.picture)
    return Conditioning(given.contexts, beside_text_and_null(source), anchor=given.outside(source))


EDIT = Task("edit", ("edit",), frozenset({"image"}), frozenset({"mask"}), _condition)
