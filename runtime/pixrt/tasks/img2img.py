"""Pictures out of others and text: SDEdit (Meng et al. 2022, arXiv:2108.01073); editing ones see none.

Must not import a backend.
"""

from pixrt.core.conditioning import Conditioning
from pixrt.tasks.task import Task, TaskInputs


def _condition(given: TaskInputs) -> Conditioning:
    return Conditioning(given.contexts, initial=given.scaled(given.encode(given.picture)))


IMG2IMG = Task(("generate", "edit"), _condition)
