"""The server's settings out of flags, the environment and a file, and where each of them comes from.

Flags come first, then the environment, then the file. pydantic-settings reads, `pixrt.options.parsing` understands.
Must not import numpy or Pillow.
"""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limits import parse as parse_rate
from pydantic import create_model
from pydantic_settings import BaseSettings, EnvSettingsSource

from pixrt.bundles.store import DEFAULT_BUNDLE
from pixrt.errors import OptionError
from pixrt.options.fields import Field, option, option_fields, rule_of
from pixrt.options.parsing import parse, spell
from pixrt.options.ray import RayOptions
from pixrt.options.serve import SERVE_SESSION, ServeOptions
from pixrt.options.session import SessionOptions
from pixrt.reading import read_toml

PREFIX = "PIXRT_SERVE_"
DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `pixrt serve` runs with.

    Attributes:
        bundle: a bundle's folder or name.
        sources: by a setting's name, where its value comes from, if it is no default.
        notes: what a reader of the settings should know, but stops nothing.
    """

    bundle: str = option(DEFAULT_BUNDLE, "A bundle's folder or name.", kind="text")
    options: ServeOptions = ServeOptions()
    session: SessionOptions = SERVE_SESSION
    ray: RayOptions = RayOptions()
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def describe(self) -> Iterator[tuple[str, str, str]]:
        """Every setting in force: its name, its value as text, and where it comes from. Nothing secret."""
        for owner in (self, self.options, self.session, self.ray):
            for name in option_fields(owner):
                yield name, _shown(getattr(owner, name)), self.sources.get(name, DEFAULT)


_OWNERS: tuple[type[Any], ...] = (Settings, ServeOptions, SessionOptions, RayOptions)


def read_settings(flags: Mapping[str, Any], file: Path | None = None) -> Settings:
    """The settings of a server. `flags` are those given, parsed. Raises OptionError, with the source in its words."""
    fields = {name: each for owner in _OWNERS for name, each in _fields(owner)}
    read: dict[str, Any] = {name: (_type(each), None) for name, each in fields.items()}
    reader = create_model("Reader", __base__=BaseSettings, **read)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if file is not None:
        for name, value in _file(file).items():
            if name not in fields:
                raise OptionError(f"{file}: there is no setting {name!r:.60}", remedy=_nearest(name, fields))
            values[name], sources[name] = _parsed(fields[name], value, str(file), file.parent), str(file)
    for name, text in EnvSettingsSource(reader, env_prefix=PREFIX)().items():
        sources[name] = f"{PREFIX}{name.upper()}"
        values[name] = _parsed(fields[name], text, sources[name], Path())
    for name, value in flags.items():
        values[name], sources[name] = value, rule_of(fields[name]).flag or f"--{name.replace('_', '-')}"
    own, options, session, ray = (
        {name: values[name] for name, _ in _fields(owner) if name in values} for owner in _OWNERS
    )
    settings = Settings(
        **own,
        options=ServeOptions(**options),
        session=dataclasses.replace(SERVE_SESSION, **session),
        ray=RayOptions(**ray),
        sources=sources,
        notes=tuple(_odd_variables(fields)),
    )
    check_rate(settings.options.rate)
    return settings


def check_rate(rate: str | None) -> None:
    """Raise OptionError for a rate that `limits` does not understand."""
    try:
        if rate:
            parse_rate(rate)
    except ValueError:
        remedy = "Write it as a number per second, minute, hour or day: 60/minute"
        raise OptionError(f"rate is {rate!r:.60}", remedy=remedy, option="rate") from None


def _fields(owner: type[Any]) -> Iterable[tuple[str, Field]]:
    return option_fields(owner).items()


def _type(each: Field) -> Any:
    """What pydantic-settings reads a variable as: text, but pairs are a JSON object."""
    return dict[str, str] | None if rule_of(each).kind == "pairs" else Any


def _file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise OptionError(f"there is no settings file {file}", remedy="Check --config")

    def refuse(problem: str) -> OptionError:
        return OptionError(f"{file} is no TOML: {problem}", remedy="Write one `name = value` a line")

    return read_toml(file, refuse)


def _parsed(each: Field, value: object, source: str, folder: Path) -> Any:
    """A value out of the file or the environment. Only here a text becomes a path, as seen from `folder`."""
    if rule_of(each).kind == "path" and isinstance(value, str):
        value = folder / Path(value).expanduser() if value else None
    try:
        return parse(each, value)
    except OptionError as error:
        raise OptionError(f"{source}: {error.problem}", remedy=error.remedy, option=each.name) from None


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]}" if near else f"Known are {', '.join(known)}"


def _odd_variables(known: Iterable[str]) -> Iterator[str]:
    """Not errors: Kubernetes gives every container such variables for a service named pixrt-serve."""
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name[len(PREFIX) :].lower() not in known:
            yield f"the variable {name} is no setting. {_nearest(name[len(PREFIX) :].lower(), known)}"


def _shown(value: object) -> str:
    """A value for people; of pairs only the names."""
    if isinstance(value, Mapping):
        return ", ".join(value)
    return "" if value is None else spell(value)
