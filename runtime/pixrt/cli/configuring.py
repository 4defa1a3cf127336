"""The user's own settings of how bundles are opened: a file of TOML, and variables, under what a command says itself.

Each of `SessionOptions` may stand in `config.toml` by its name, or in the variable PIXRT_NAME. A flag comes first, then
the variable, then the file. click looks them up.
"""

import difflib
import os
from pathlib import Path
from typing import Any

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields, rule_of
from pixrt.options.parsing import parse
from pixrt.options.session import SessionOptions
from pixrt.places import settings_folder
from pixrt.reading import read_toml

PREFIX = "PIXRT_"
_FILE = "CONFIG"  # the variable that says where the file is


def config_file() -> Path:
    """Where the file is looked for: `$PIXRT_CONFIG`, or config.toml in the platform's folder of settings."""
    said = os.environ.get(PREFIX + _FILE)
    return Path(said) if said else settings_folder() / "config.toml"


def defaults_for(command: Any) -> dict[str, Any]:
    """What the file says, as click's `default_map` of a command and of all below it; {} without a file.

    Raises OptionError for a file that cannot be read, a name that is no option, and a value that the option refuses.
    """
    path = config_file()
    if not (path.exists() or os.environ.get(PREFIX + _FILE)):
        return {}
    return _spread(command, _read(path))


def _read(path: Path) -> dict[str, Any]:
    def refuse(problem: str) -> OptionError:
        return OptionError(problem, remedy="Mend it, or move it away")

    fields, values = option_fields(SessionOptions), read_toml(path, refuse)
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(fields)}"
            raise OptionError(f"{path} sets {name[:60]!r}, which is no option of a session", remedy=hint)
        try:
            said: Any = value if isinstance(value, dict) else parse(fields[name], value)
            SessionOptions(**{name: said})
        except OptionError as error:
            raise OptionError(f"{path}: {error.problem}", remedy=error.remedy) from error
    return {name: _as_flag(rule_of(fields[name]).kind, value) for name, value in values.items()}


def _as_flag(kind: str, value: Any) -> Any:
    """A value as it would be given on the command line."""
    if kind == "pairs":
        return [f"{name}={each}" for name, each in value.items()]
    return value if kind == "flag" else str(value)


def _spread(command: Any, values: dict[str, Any]) -> dict[str, Any]:
    below = getattr(command, "commands", None)
    return {name: _spread(each, values) for name, each in below.items()} if below else values
