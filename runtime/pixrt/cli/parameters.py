"""Command-line flags out of the fields of dataclasses: one flag per option, said once, where the field is."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pixrt.bundles.manifest import Manifest
from pixrt.bundles.store import BUILT_IN, DEFAULT_BUNDLE, open_bundle
from pixrt.cli.configuring import PREFIX
from pixrt.errors import PixrtError
from pixrt.options.fields import Field, Kind, group_of, option_fields, range_of, rule_of
from pixrt.options.parsing import parse, spell
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import bundle_defaults

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

_TAG = re.compile(r"(\\*)(\[[a-z#/@][^[]*?])")  # what rich's markup takes for a tag
MASK, TENSORRT, OUTPUT = "Mask", "TensorRT", "Output"
BUDGET = "budget_ms"  # where settings are compared or measured, nothing else may choose them
_LAST_PANELS = (MASK, "Speed", "ONNX Runtime", TENSORRT, OUTPUT, "Marking")
_METAVARS: Mapping[Kind, str] = {
    "whole": "N",
    "number": "X",
    "choice": "NAME",
    "window": "FROM TO",
    "text": "TEXT",
    "flag": "",
    "pairs": "NAME=VALUE",
    "path": "PATH",
}
_TYPES: Mapping[Kind, Any] = {"flag": bool, "window": tuple[str, str], "pairs": list[str], "path": Path}


def with_flags(
    options: type[Any],
    name: str = "parameters",
    *,
    defaults: Any = None,
    lists: Collection[str] = (),
    without: Collection[str] = (),
) -> Decorator:
    """Replace a command's argument `name` by one flag per option; it receives those given, parsed, as a dict.

    `defaults` is an instance with what the command itself fills in. Fields in `lists` take several values with commas,
    and are received as text; those `without` have no flag. Parsing raises OptionError.
    """
    flags = [flag for flag in _flags(options, defaults, lists=lists) if flag.name not in without]
    return _replacing(name, flags, lambda given: _parsed(options, given, lists))


def with_session(defaults: SessionOptions, only: Collection[str]) -> Decorator:
    """Replace a command's argument `session` by flags of these options; it receives `SessionOptions`."""
    return _replacing("session", _flags(SessionOptions, defaults, only=only), functools.partial(_replaced, defaults))


def with_arguments_of(builder: type[Any], name: str, *, without: Collection[str] = ()) -> Decorator:
    """Replace a command's argument `name` by the fields of a dataclass, which are written as arguments of typer's.

    A field whose default has options (`SessionOptions`) becomes a flag per option. Fields in `without` become no flags,
    and have their defaults.
    """
    fields = inspect.signature(builder, eval_str=True).parameters.values()
    own = [each for each in fields if each.name not in without and not _has_options(each.default)]
    groups = {
        each.name: (each.default, _flags(type(each.default), each.default))
        for each in fields
        if each.name not in without and _has_options(each.default)
    }

    def receive(given: dict[str, Any]) -> Any:
        built = {
            group: _replaced(defaults, {flag.name: given.pop(flag.name) for flag in flags})
            for group, (defaults, flags) in groups.items()
        }
        return builder(**built, **given)

    return _replacing(name, [*own, *(flag for _, flags in groups.values() for flag in flags)], receive)


def example(words: str) -> str:
    """What stands below a command's help: how it may be called."""
    return f"Example: {escape(words)}"


def escape(text: str) -> str:
    """A text as rich's markup has it, see `rich.markup.escape`; rich is imported when something is shown."""
    return _TAG.sub(r"\1\1\\\2", text)


def _has_options(value: object) -> bool:
    return dataclasses.is_dataclass(value) and bool(option_fields(value))


def _replaced(defaults: Any, given: Mapping[str, Any]) -> Any:
    """Options with those that are given, parsed."""
    return dataclasses.replace(defaults, **_parsed(type(defaults), given))


def _parsed(options: type[Any], given: Mapping[str, Any], lists: Collection[str] = ()) -> dict[str, Any]:
    fields = option_fields(options)
    said = {name: value for name, value in given.items() if value is not None}
    return {name: value if name in lists else parse(fields[name], value) for name, value in said.items()}


def _replacing(name: str, added: Sequence[inspect.Parameter], receive: Callable[[dict[str, Any]], Any]) -> Decorator:
    """Give a command other arguments in place of `name`, which gets what `receive` makes of them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            given = {parameter.name: arguments.pop(parameter.name) for parameter in added}
            command(**arguments, **{name: receive(given)})

        own = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != name]
        ordered = sorted((each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*kept, *added)), key=_place)
        wrapper.__signature__ = own.replace(parameters=ordered)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
        return wrapper

    return decorate


def _place(parameter: inspect.Parameter) -> int:
    """Where a flag's panel stands in the help: what the command is about first, where results go last."""
    panels = [getattr(said, "rich_help_panel", None) for said in getattr(parameter.annotation, "__metadata__", ())]
    return max((_LAST_PANELS.index(panel) + 1 for panel in panels if panel in _LAST_PANELS), default=0)


def _flags(
    options: type[Any],
    defaults: Any = None,
    *,
    only: Collection[str] | None = None,
    lists: Collection[str] = (),
) -> list[inspect.Parameter]:
    """One flag per option of a class; what is not given is None. `defaults` is an instance with other ones."""
    fields = option_fields(options)
    values = {name: each.default if defaults is None else getattr(defaults, name) for name, each in fields.items()}
    manifest = _built_in()
    of_bundle = bundle_defaults(options, manifest.defaults, manifest.native_resolution) if manifest else {}
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotation(options, each, _default(values[name], of_bundle.get(name)), name in lists),
        )
        for name, each in fields.items()
        if only is None or name in only
    ]


def _annotation(options: type[Any], field: Field, default: str, several: bool) -> Any:
    rule = rule_of(field)
    words = [rule.help]
    if not all(choice in rule.help for choice in rule.choices):
        words.append(f"One of {', '.join(rule.choices)}.")
    if range_of(rule):
        words.append(f"{range_of(rule).capitalize()}.")
    if several:
        words.append("Several with commas.")
    if default:
        words.append(f"[default: {default}]")
    # What is off anyway has no flag that turns it off: two long names leave no room for the words beside them.
    negative = rule.kind == "flag" and field.default is not False
    flag = rule.flag or f"--{field.name.replace('_', '-')}"
    kind: Any = str if several else _TYPES.get(rule.kind, str)
    said = typer.Option(
        f"{flag}/--no-{flag.removeprefix('--')}" if negative else flag,
        help=escape(" ".join(words)),
        metavar="LIST" if several else _METAVARS[rule.kind],
        rich_help_panel=group_of(options, field),
        show_default=False,
        envvar=f"{PREFIX}{field.name.upper()}" if options is SessionOptions else None,
        show_envvar=False,
        autocompletion=None if several else _completion(field),
    )
    return Annotated[kind | None, said]


def _completion(field: Field) -> Callable[[], list[str] | list[tuple[str, str]]] | None:
    """What a shell offers where the flag's value is completed; None where anything may be said."""
    if field.name == "backend":  # its option is any text: only the list of them knows which there are
        return _backends
    choices = list(rule_of(field).choices)
    return (lambda: choices) if choices else None


def _backends() -> list[tuple[str, str]]:
    from pixrt.backends.registry import backend_choices

    return backend_choices()


def _default(value: object, of_bundle: object) -> str:
    """What holds where a flag is not given, in words; "" where there is nothing to say."""
    if value is None:
        return f"the bundle's; {DEFAULT_BUNDLE}'s is {spell(of_bundle)}" if of_bundle is not None else ""
    return "" if value == "" or value is False else "on" if value is True else spell(value)


@functools.cache
def _built_in() -> Manifest | None:
    """The default bundle's manifest, so that help says what holds; None where it cannot be used: an edit says why."""
    try:
        return open_bundle(BUILT_IN / DEFAULT_BUNDLE, verify=False).manifest
    except PixrtError:
        return None
