"""A session: one picture decoded once, edited again and again, with undo. Must not import a backend."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from pixrt.editor.events import OnStep
from pixrt.editor.result import EditResult
from pixrt.editor.runner import Runner
from pixrt.errors import OptionError, PictureError
from pixrt.options.parameters import EditParameters
from pixrt.options.stored import options_from, told, unknown_parameters
from pixrt.options.tasks import EditOptions, Options
from pixrt.pictures.images import PictureSource, load_picture, to_image
from pixrt.tasks.jobs import Job

if TYPE_CHECKING:
    from PIL import Image


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """A picture of the session, the steps that led to it from the original, and what was tried on it."""

    image: "Image.Image"
    steps: tuple[EditResult, ...] = ()
    tried: list[EditResult] = dataclasses.field(default_factory=list)


class Session:
    """One picture and the edits of it: `Editor.session` makes one.

    `edit` edits the current picture, and its result is current from then on; `try_edit` leaves the current picture as
    it is, so many instructions and scales can be tried on it, and `keep` makes one of those results current. Between
    steps goes the result itself, uint8 pixels and transparency, nothing is encoded. The picture that was given, and
    those of results, are never changed. The pictures of all steps and trials are held in memory until `reset`.

    A result made from an edited picture carries the parameters of every earlier step, seeds included, and `save` writes
    them into the file as "history": `repeat` does the whole chain again on the same original. EXIF holds some hundred
    steps, a PNG some thousand. Masks are not among parameters.

    Not thread-safe: use a session in one thread at a time. Several sessions may share an editor.
    """

    def __init__(self, runner: Runner, image: PictureSource) -> None:
        """Decode the picture. Raises PictureError."""
        self._runner = runner
        self._states = [_State(to_image(load_picture(image)))]
        self._at = 0  # the current state; those after it are what `redo` goes to

    @property
    def image(self) -> "Image.Image":
        """A copy of the current picture: RGB, or RGBA where the original has transparency."""
        return self._current.image.copy()

    @property
    def history(self) -> tuple[EditResult, ...]:
        """The steps that made the current picture of the original, oldest first; empty at the original."""
        return self._current.steps

    def edit(
        self,
        instruction: str,
        *,
        mask: PictureSource | None = None,
        on_step: OnStep | None = None,
        **parameters: Unpack[EditParameters],
    ) -> EditResult:
        """Edit the current picture, and go on from the result; what was undone can no longer be redone.

        The parameters are those of `EditOptions`, the mask is of the current picture's size. Whatever is raised leaves
        the session as it was: OptionError, PictureError, BackendError; Cancelled where `on_step` returned False.
        """
        return self._keep(self._make(instruction, mask, on_step, EditOptions(**parameters)))  # type: ignore[arg-type]

    def try_edit(
        self,
        instruction: str,
        *,
        mask: PictureSource | None = None,
        on_step: OnStep | None = None,
        **parameters: Unpack[EditParameters],
    ) -> EditResult:
        """Edit the current picture as `edit` does, but stay where the session is. `keep` takes the result."""
        result = self._make(instruction, mask, on_step, EditOptions(**parameters))  # type: ignore[arg-type]
        self._current.tried.append(result)
        return result

    def keep(self, result: EditResult) -> EditResult:
        """Go on from a result of `try_edit`, as if `edit` had made it. Raises OptionError unless it is of this picture.

        After `undo` the results that were tried on the earlier picture can be kept in turn.
        """
        if not any(result is tried for tried in self._current.tried):
            raise OptionError(
                "the result was not tried on the session's current picture",
                remedy="Pass what try_edit returned for it, or go back to that picture with undo",
            )
        return self._keep(result)

    def repeat(
        self, parameters: Mapping[str, Any], masks: Sequence[PictureSource | None] | None = None
    ) -> tuple[EditResult, ...]:
        """Do the edits that a picture's parameters tell of, its history and the last one, each of the one before.

        `parameters` are `EditResult.parameters`, or what `pixrt.read_parameters` finds in a saved picture. Where steps
        had masks give one per step, None for those without. That the model is the same is not checked; of parameters
        that this version does not know it warns. Raises
        PictureError for parameters of anything else, OptionError for masks of another number; what else is raised is
        raised by a step, and leaves the steps before it done.
        """
        history = parameters.get("history", [])
        if not (isinstance(history, list) and all(isinstance(step, dict) for step in history)):
            raise PictureError("the history is no list of parameters", remedy="Use a picture that pixrt wrote")
        steps = (*history, parameters)
        chain = [options_from(step, "the picture", EditOptions) for step in steps]
        unknown = sorted({name for step in steps for name in unknown_parameters(step)})
        if unknown:
            warnings.warn(told(unknown, "the picture"), stacklevel=2)
        masks = [None] * len(chain) if masks is None else masks
        if len(masks) != len(chain):
            raise OptionError(f"there are {len(masks)} masks for {len(chain)} edits", remedy="Pass one each, or None")
        return tuple(
            self._keep(self._make(instruction, mask, None, options))
            for (instruction, options), mask in zip(chain, masks, strict=True)
        )

    def undo(self) -> "Image.Image":
        """Go back one step; a copy of the picture before it. Raises OptionError at the original."""
        if self._at == 0:
            raise OptionError("the session is at its original picture: nothing to undo", remedy="Edit it first")
        self._at -= 1
        return self.image

    def redo(self) -> "Image.Image":
        """Go forward to what was undone last; a copy of that picture. Raises OptionError where there is nothing."""
        if self._at + 1 == len(self._states):
            raise OptionError("the session is at its last picture: nothing to redo", remedy="Undo a step first")
        self._at += 1
        return self.image

    def reset(self) -> None:
        """Begin again with the original; every step and trial is forgotten, and their memory free."""
        self._states = [_State(self._states[0].image)]
        self._at = 0

    @property
    def _current(self) -> _State:
        return self._states[self._at]

    def _make(
        self, instruction: str, mask: PictureSource | None, on_step: OnStep | None, options: Options
    ) -> EditResult:
        job = Job(options=options, text=instruction, image=self._current.image, mask=mask)
        (result,) = self._runner.run(self._runner.check([job]), on_step=on_step)
        return dataclasses.replace(result, history=tuple(map(_alone, self._current.steps)))

    def _keep(self, result: EditResult) -> EditResult:
        # A copy: the caller may paint on the result's picture.
        state = _State(result.image.copy(), (*self._current.steps, result))
        self._at += 1
        self._states[self._at :] = [state]
        return result


def _alone(result: EditResult) -> dict[str, Any]:
    """The parameters of one step: its own history would say the earlier ones once more."""
    return {name: value for name, value in result.parameters.items() if name != "history"}
