"""What a wrong command line means: an unknown flag by its name here, a missing output by what was given beside it."""

from typing import Any

from pixrt.cli.outputs import split_text
from pixrt.errors import OptionError, PixrtError
from pixrt.options.names import unknown_option
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.pictures.formats import READABLE_SUFFIXES


def explain_usage(error: Any) -> PixrtError:
    """What typer raised for a wrong command line, as an error of pixrt's with the remedy that helps."""
    context = error.ctx
    command = str(context.info_name) if context is not None else ""
    flag = getattr(error, "option_name", "")
    if flag and command in TASK_OPTIONS:
        names = [parameter.name for parameter in context.command.params]
        unknown = unknown_option(flag.lstrip("-").replace("-", "_"), names, task=command, spelled=_flag)
        if "Known are" not in unknown.remedy:
            return unknown
    remedy = "See `pixrt --help`, and `pixrt COMMAND --help`"
    if getattr(getattr(error, "param", None), "name", "") == "output" and command in (*TASK_OPTIONS, "batch"):
        words = next((value for name, value in context.params.items() if name.endswith("_and_instruction")), None)
        try:
            if words and not context.params.get("repeat"):
                split_text(words, READABLE_SUFFIXES)
        except OptionError as mistake:
            return mistake
        remedy = "Say where the result goes, such as -o result.png"
    return PixrtError(error.format_message().rstrip("."), remedy=remedy)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
