"""`pixrt pull OWNER/NAME`: a checkpoint of the hub becomes a bundle that is found by name, in one go."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pixrt.bundles.store import list_bundles, models_folder
from pixrt.cli.console import warn
from pixrt.cli.display import errors
from pixrt.cli.export import export_checkpoint_to
from pixrt.cli.extras import require_packages
from pixrt.cli.parameters import with_flags
from pixrt.errors import OptionError, OutputError
from pixrt_export.options import ExportOptions


@with_flags(ExportOptions)
def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A checkpoint of the Hugging Face hub.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="The bundle's folder; else it is found by NAME."),
    ] = None,
    *,
    parameters: dict[str, Any],
) -> None:
    """Download a checkpoint and export it; a second time goes on where the download ended."""
    require_packages("huggingface_hub", extra="export", purpose="downloading")
    from pixrt_export.download import is_hub_id
    from pixrt_export.hub import find_checkpoint

    if not is_hub_id(repository):
        problem = f"{repository!r:.80} is no repository of the hub"
        raise OptionError(problem, remedy="Give OWNER/NAME, such as timbrooks/instruct-pix2pix")
    name = repository.partition("/")[2]
    options = ExportOptions(checkpoint=repository, output=output or models_folder() / name, **parameters)
    if output is None and not options.overwrite and name in dict(list_bundles()):
        raise OutputError(
            f"there is a bundle {name!r} already", remedy=f"Use it with -b {name}, or pass --overwrite, or another -o"
        )
    if not errors.is_terminal:
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()

    def on_plan(files: int, size: int) -> None:
        warn(f"downloading {files} files of {repository}, {size / 2**20:.0f} MiB, as far as they are not here")

    find_checkpoint(repository, options.allow_pickle, on_plan)
    export_checkpoint_to(options)
    if output is None:
        warn(f'use it: pixrt edit photo.jpg "make it winter" -b {name} -o winter.jpg')
