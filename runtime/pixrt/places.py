"""The user's folders: for caches, for bundles and for settings, as the platform or its variables say.

Must not import numpy.
"""

from collections.abc import Callable
from pathlib import Path

import platformdirs

from pixrt.errors import PixrtError


def cache_folder() -> Path:
    """What may be deleted at any time. Raises PixrtError for a user who has no folder at all, as the others here."""
    return _found(platformdirs.user_cache_path, "XDG_CACHE_HOME")


def data_folder() -> Path:
    """The user's own bundles, and notes of what was built."""
    return _found(platformdirs.user_data_path, "XDG_DATA_HOME")


def settings_folder() -> Path:
    """Where config.toml is looked for."""
    return _found(platformdirs.user_config_path, "XDG_CONFIG_HOME")


def _found(ask: Callable[[str], Path], variable: str) -> Path:
    """Without HOME the system's table of users is asked, which need not know a user of a container."""
    try:
        path = ask("pixrt")
    except (RuntimeError, KeyError, OSError) as error:
        raise _homeless(variable) from error
    if not path.is_absolute():  # a "~" that nobody could replace
        raise _homeless(variable)
    return path


def _homeless(variable: str) -> PixrtError:
    return PixrtError(
        f"this user has no home folder: neither HOME nor {variable} is set, and the system does not know the user",
        remedy="Set HOME to a folder that may be written to, such as HOME=/tmp",
    )
