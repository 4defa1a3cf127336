"""What a picture says of how it was made: the text and the options of a task. Must not import numpy or Pillow."""

from collections.abc import Mapping
from typing import Any

from pixrt.errors import PictureError
from pixrt.options.fields import option_fields
from pixrt.options.parsing import parse_all
from pixrt.options.tasks import TASK_OPTIONS, EditOptions, Options

# What `EditResult.parameters` says besides options. Digests of further pictures end in "_sha256".
_NO_OPTIONS = frozenset(
    {
        "pixrt",
        "a1111",
        "task",
        "model",
        "model_sha256",
        "precision",
        "notice",
        "loras",
        "embeddings",
        "tile",
        "instruction",
        "history",
    }
)


def options_from(parameters: Mapping[str, Any], where: str, kind: type[Options]) -> tuple[str, Options]:
    """Instruction and options of one task out of a picture's parameters; `where` names the picture in errors.

    What is no option is left out: see `unknown_parameters`. Raises PictureError where they are not what
    `EditResult.parameters` writes, or another task's; OptionError for values out of range.
    """
    task = parameters.get("task", EditOptions.task)
    if task != kind.task:
        raise PictureError(
            f"{where} was made by {str(task)[:20]}, not by {kind.task}",
            remedy="Repeat it with the command that made it",
        )
    instruction = parameters.get("instruction")
    if not isinstance(instruction, str):
        raise PictureError(f"{where} holds parameters without an instruction", remedy="Use a picture that pixrt wrote")
    # What a budget chose stands beside it; it is not to choose anew, on another machine.
    known = {name: parameters[name] for name in option_fields(kind) if name in parameters and name != "budget_ms"}
    return instruction, kind(**parse_all(kind, known))


def unknown_parameters(parameters: Mapping[str, Any]) -> list[str]:
    """The names in a picture's parameters that this version does not know: a newer one, or A1111, made it with them."""
    kind = TASK_OPTIONS.get(str(parameters.get("task", EditOptions.task)))
    known = _NO_OPTIONS | (option_fields(kind).keys() if kind else set())
    others = parameters.get("a1111")  # what AUTOMATIC1111 wrote and has no meaning here
    unknown = {name for name in parameters if name not in known and not name.endswith("_sha256")}
    return sorted(unknown | (others.keys() if isinstance(others, Mapping) else set()))


def told(names: list[str], where: str) -> str:
    """The sentence about unknown parameters of a picture."""
    some = ", ".join(f"{name!r:.40}" for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{where} has parameters that this version of pixrt does not know, and leaves out: {some}"
