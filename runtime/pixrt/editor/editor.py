"""The Python API: `Editor` opens a bundle once and does every picture task with it. Must not import a backend."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, Union, Unpack, overload

from pixrt.editor.events import OnStep
from pixrt.editor.history import Session
from pixrt.editor.result import EditResult
from pixrt.editor.runner import Runner
from pixrt.options.fields import option_fields, rule_of
from pixrt.options.parameters import (
    EditParameters,
    GenerateParameters,
    Img2ImgParameters,
    InpaintParameters,
    StyleParameters,
)
from pixrt.options.tasks import EditOptions, GenerateOptions, Img2ImgOptions, InpaintOptions, Options, StyleOptions
from pixrt.pictures.images import PictureSource
from pixrt.tasks.jobs import has_several_seeds, is_several, pair

Item = TypeVar("Item")
Method = TypeVar("Method", bound=Callable[..., Any])
Several: TypeAlias = Union[Item, Sequence[Item]]  # noqa: UP007  # an alias of a type variable takes no |
Results: TypeAlias = EditResult | list[EditResult]


def lists(options: type[Options]) -> Callable[[Method], Method]:
    """Let `help` list the parameters that a method takes by keyword: the fields of its options, and what each is."""

    def add(method: Method) -> Method:
        rows = [f"    {name}: {rule_of(field).help}" for name, field in option_fields(options).items()]
        method.__doc__ = "\n".join([inspect.cleandoc(method.__doc__ or ""), "", "Parameters:", *rows])
        return method

    return add


class Editor(Runner):
    """A `Runner` with a method per task. Which tasks a bundle can do: see `pixrt.tasks.registry`.

    A picture is a path, a PIL image, an array (uint8, or float in [0, 1]) or an encoded file's bytes. A mask is one of
    the picture's size: what is white may change, or what is transparent where anything is. With a list of anything,
    paired one to one, the result is a list in that order; a picture's result does not depend on the others.

    Every method raises OptionError, PictureError, BackendError; Cancelled where `on_step` returned False.
    """

    @overload
    def edit(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too; one picture and one text match here first
        self,
        image: PictureSource,
        instruction: str,
        *,
        mask: PictureSource | None = ...,
        on_step: OnStep | None = ...,
        **parameters: Unpack[EditParameters],
    ) -> EditResult: ...

    @overload
    def edit(
        self,
        image: Several[PictureSource],
        instruction: Several[str],
        *,
        mask: Several[PictureSource | None] = ...,
        on_step: OnStep | None = ...,
        **parameters: Unpack[EditParameters],
    ) -> list[EditResult]: ...

    @lists(EditOptions)
    def edit(
        self,
        image: Several[PictureSource],
        instruction: Several[str],
        *,
        mask: Several[PictureSource | None] = None,
        on_step: OnStep | None = None,
        **parameters: Unpack[EditParameters],
    ) -> Results:
        """Edit pictures as instructed, all of them or what masks allow; the parameters are those of `EditOptions`."""
        return self._do(EditOptions, on_step, parameters, image=image, text=instruction, mask=mask)

    @overload
    def generate(  # type: ignore[overload-overlap]
        self, prompt: str, *, on_step: OnStep | None = ..., **parameters: Unpack[GenerateParameters]
    ) -> EditResult: ...

    @overload
    def generate(
        self, prompt: Sequence[str], *, on_step: OnStep | None = ..., **parameters: Unpack[GenerateParameters]
    ) -> list[EditResult]: ...

    @lists(GenerateOptions)
    def generate(
        self, prompt: Several[str], *, on_step: OnStep | None = None, **parameters: Unpack[GenerateParameters]
    ) -> Results:
        """Make pictures from text alone; the parameters are those of `GenerateOptions`."""
        return self._do(GenerateOptions, on_step, parameters, text=prompt)

    @overload
    def img2img(  # type: ignore[overload-overlap]
        self,
        image: PictureSource,
        prompt: str,
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[Img2ImgParameters],
    ) -> EditResult: ...

    @overload
    def img2img(
        self,
        image: Several[PictureSource],
        prompt: Several[str],
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[Img2ImgParameters],
    ) -> list[EditResult]: ...

    @lists(Img2ImgOptions)
    def img2img(
        self,
        image: Several[PictureSource],
        prompt: Several[str],
        *,
        on_step: OnStep | None = None,
        **parameters: Unpack[Img2ImgParameters],
    ) -> Results:
        """Make pictures from others and text, as far from them as `strength` says; see `Img2ImgOptions`."""
        return self._do(Img2ImgOptions, on_step, parameters, image=image, text=prompt)

    @overload
    def inpaint(  # type: ignore[overload-overlap]
        self,
        image: PictureSource,
        mask: PictureSource,
        prompt: str,
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[InpaintParameters],
    ) -> EditResult: ...

    @overload
    def inpaint(
        self,
        image: Several[PictureSource],
        mask: Several[PictureSource],
        prompt: Several[str],
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[InpaintParameters],
    ) -> list[EditResult]: ...

    @lists(InpaintOptions)
    def inpaint(
        self,
        image: Several[PictureSource],
        mask: Several[PictureSource],
        prompt: Several[str],
        *,
        on_step: OnStep | None = None,
        **parameters: Unpack[InpaintParameters],
    ) -> Results:
        """Fill what masks select as the text says, and leave the rest as it is; see `InpaintOptions`."""
        return self._do(InpaintOptions, on_step, parameters, image=image, mask=mask, text=prompt)

    @overload
    def style(  # type: ignore[overload-overlap]
        self,
        image: PictureSource,
        style: PictureSource,
        instruction: str = ...,
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[StyleParameters],
    ) -> EditResult: ...

    @overload
    def style(
        self,
        image: Several[PictureSource],
        style: Several[PictureSource],
        instruction: Several[str] = ...,
        *,
        on_step: OnStep | None = ...,
        **parameters: Unpack[StyleParameters],
    ) -> list[EditResult]: ...

    @lists(StyleOptions)
    def style(
        self,
        image: Several[PictureSource],
        style: Several[PictureSource],
        instruction: Several[str] = "",
        *,
        on_step: OnStep | None = None,
        **parameters: Unpack[StyleParameters],
    ) -> Results:
        """Give pictures the style of others, and follow the instruction if there is one; see `StyleOptions`."""
        return self._do(StyleOptions, on_step, parameters, image=image, style=style, text=instruction)

    def session(self, image: PictureSource) -> Session:
        """A session with one picture: edits of edits, with undo. Decodes the picture; raises PictureError."""
        return Session(self, image)

    def _do(
        self, options: type[Options], on_step: OnStep | None, parameters: Mapping[str, Any], **given: object
    ) -> Results:
        requests = self.check(pair(options, parameters, **given))
        results = sorted(self.run(requests, on_step=on_step), key=lambda result: result.index)
        return results if any(map(is_several, given.values())) or has_several_seeds(parameters) else results[0]
