"""Command-line flags out of the fields of dataclasses: one flag per field, said once, where the field is."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Annotated, Any, Literal

import typer


def with_flags(
    options: type[Any], *, lists: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's argument `parameters` by one flag per field; it receives those given, as a dict.

    Fields in `lists` take several values with commas, and are received as text.
    """
    hints = typing.get_type_hints(options)
    fields = dataclasses.fields(options)
    flags = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_list(_help(field)) if field.name in lists else _annotation(hints[field.name], _help(field)),
        )
        for field in fields
    ]

    def receive(given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value is not None}

    return _replacing("parameters", flags, receive)


def with_arguments_of(
    builder: type[Any], name: str, *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's argument `name` by the fields of a dataclass, which are written as arguments of typer's.

    Fields in `without` become no flags, and have their defaults.
    """
    added = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(builder, eval_str=True).parameters.values()
        if parameter.name not in without
    ]

    return _replacing(name, added, lambda given: builder(**given))


def _replacing(
    name: str, added: Sequence[inspect.Parameter], receive: Callable[[dict[str, Any]], Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command other arguments in place of `name`, which gets what `receive` makes of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            given = {parameter.name: arguments.pop(parameter.name) for parameter in added}
            command(**arguments, **{name: receive(given)})

        own = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != name]
        wrapper.__signature__ = own.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *added)}
        return wrapper

    return decorate


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata["help"])
    if field.metadata.get("low") is not None:
        text += f" From {field.metadata['low']} to {field.metadata['high']}."
    return text if field.default in (None, "") or field.default is False else f"{text} [default: {field.default}]"


def _annotation(hint: Any, text: str) -> Any:
    """The flag's type: a closed set becomes a string with its values completed; the dataclass checks them."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType] if _is_union(hint) else [hint]
    (kind,) = kinds
    if typing.get_origin(kind) is Literal:
        choices: Iterable[str] = typing.get_args(kind)
        return Annotated[str | None, typer.Option(help=text, metavar="NAME", autocompletion=lambda: list(choices))]
    return Annotated[kind | None, typer.Option(help=text, show_default=False)]


def _list(text: str) -> Any:
    return Annotated[str | None, typer.Option(help=f"{text} Several with commas.", metavar="LIST", show_default=False)]


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)
