"""A bar for every picture of a call, in a terminal or in a notebook. Must not import a backend."""

from typing import TYPE_CHECKING

from pixrt.editor.events import Stepped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """What is passed as `on_step`: `editor.edit(photo, "make it winter", on_step=ProgressBar())`.

    Rich draws it, in a notebook too. It ends by itself when the last step of every picture that has begun has run.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[int, TaskID] = {}

    def __call__(self, step: Stepped) -> None:
        """A step of a picture has run."""
        from rich.progress import Progress

        if self._progress is None:
            self._progress = Progress()
            self._progress.start()
        if step.index not in self._tasks:
            self._tasks[step.index] = self._progress.add_task(f"picture {step.index + 1}", total=step.of)
        self._progress.update(self._tasks[step.index], completed=step.step)
        if all(task.finished for task in self._progress.tasks):
            self._progress.stop()
            self._progress, self._tasks = None, {}
