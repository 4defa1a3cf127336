"""Files of the hub's repositories, by Hugging Face's own client: into its cache, where what is begun is continued.

Imports no PyTorch.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pixrt.errors import CheckpointError

Wanted = Callable[[Sequence[str]], list[str]]
"""Which of a hub repository's files are to be downloaded."""
Plan = Callable[[int, int], None]
"""Is told how many files there are to be, and their bytes, before they are downloaded."""

_HUB_ANSWERS_IN_S = 15.0
_SINGLE = (".safetensors", ".ckpt")


def is_hub_id(name: str) -> bool:
    """Whether a name can be that of a repository of the hub."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def download(name: str, wanted: Wanted, on_plan: Plan = lambda files, size: None) -> Path:
    """Download what is wanted of a repository, as far as it is not there; its folder. Raises CheckpointError."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        info = HfApi().repo_info(name, timeout=_HUB_ANSWERS_IN_S, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        files = [file for file in wanted(list(sizes)) if file in sizes]
        _require_folders(name, list(sizes), files)
        on_plan(len(files), sum(sizes[file] for file in files))
        return Path(snapshot_download(name, revision=info.sha, allow_patterns=files))
    except CheckpointError:
        raise
    except HFValidationError as error:
        raise CheckpointError(
            f"{name!r} is neither a folder nor a hub id", remedy="Give a diffusers folder, or a hub id like OWNER/NAME"
        ) from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"the hub gives {name} only to those who have accepted its terms",
            remedy="Accept them on its page, then log in with `hf auth login`",
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name!r} is no folder here, and the hub has no such repository, or it is private",
            remedy="Check its spelling, or log in with `hf auth login`",
        ) from error
    except Exception as error:  # offline, cut off: the hub's clients raise many unrelated types
        raise CheckpointError(
            f"{name!r} is no folder here, and the hub did not give it ({type(error).__name__})",
            remedy="Try again, which goes on where it ended; or download the checkpoint on a machine that reaches the"
            " hub, and pass its folder",
        ) from error


def _require_folders(name: str, every: Sequence[str], files: Sequence[str]) -> None:
    """Raise CheckpointError for a repository that is no checkpoint in folders, with what it is."""
    if any("/" in file for file in files) or "config.json" in files:
        return
    single = next((file for file in every if "/" not in file and file.endswith(_SINGLE)), None)
    if single is not None:
        raise CheckpointError(
            f"{name} has no folders in diffusers' format, but the file {single}",
            remedy=f"Run `hf download {name} {single}`, and export the file that it prints",
        )
    raise CheckpointError(
        f"{name} holds no checkpoint in diffusers' format", remedy="Give the repository of a whole checkpoint"
    )
