"""One list of backends: what derives from it is complete, and its entries agree with the package and the docs."""

import re
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pixrt.backends.info import PARTICULAR, BackendInfo
from pixrt.backends.protocol import Backend
from pixrt.backends.registry import (
    BACKENDS,
    WITH_ENGINES,
    backend_choices,
    backend_names,
    backend_statuses,
    check_options,
    open_backend,
)
from pixrt.bundles.store import Bundle, open_bundle
from pixrt.errors import BackendError, OptionError
from pixrt.options.session import SessionOptions
from shapes import BLUE, Run

ROOT = Path(__file__).parent.parent.parent
BUNDLE = open_bundle("shapes", verify=False)
GIVEN: dict[str, Any] = {"provider_options": {"device_id": "0"}, "weight_budget_mib": 5, "cpu_precision": "bf16"}
by_name = pytest.mark.parametrize("info", BACKENDS, ids=lambda info: info.name)


def test_names_are_unique_and_all_are_listed() -> None:
    names = [info.name for info in BACKENDS]
    assert len(set(names)) == len(names)
    assert backend_names() == ["auto", *names] == [name for name, _ in backend_choices()]
    assert [status.name for status in backend_statuses(BUNDLE)] == names


@by_name
def test_the_extra_installs_its_packages(info: BackendInfo) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    required = {re.split(r"[<>=[]", text)[0] for text in extras[info.extra]} if info.extra else set()
    assert set(info.packages) == required


@by_name
def test_the_docs_have_a_row(info: BackendInfo) -> None:
    rows = (ROOT / "docs" / "backends.md").read_text().splitlines()
    (row,) = (row for row in rows if row.startswith(f"| `{info.name}` |"))
    options = {word.strip("`-").replace("-", "_") for word in row.split("|")[-2].split()} - {"none"}
    flags = {"provider_option": "provider_options", "weight_budget": "weight_budget_mib"}
    assert {flags.get(name, name) for name in options} == info.options
    assert (f"`{info.extra}`" in row) == bool(info.extra)
    assert row.split("|")[2].strip().startswith(info.summary)


def test_particular_options_are_options() -> None:
    assert GIVEN.keys() == PARTICULAR.keys() <= {field.name for field in fields(SessionOptions)}
    for name in backend_names():
        check_options(name, SessionOptions(provider_options={}, cpu_precision="fp32"))


@by_name
@pytest.mark.parametrize("option", PARTICULAR)
def test_an_option_goes_to_those_that_have_it(info: BackendInfo, option: str) -> None:
    options = SessionOptions(**{option: GIVEN[option]})
    if option in info.options:
        check_options(info.name, options)
        return
    with pytest.raises(OptionError, match=f"given for the backend {info.name}") as caught:
        check_options(info.name, options)
    assert all(other.name in caught.value.remedy for other in BACKENDS if option in other.options)


@pytest.mark.parametrize("option", PARTICULAR)
def test_auto_takes_no_particular_option(option: str) -> None:
    with pytest.raises(OptionError, match="given for the backend auto"):
        open_backend("auto", BUNDLE, SessionOptions(**{option: GIVEN[option]}))


def test_engines_are_of_the_backends_that_run_them() -> None:
    assert WITH_ENGINES == {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


def test_a_library_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixrt.backends.ort.backend", None)
    with pytest.raises(BackendError, match=r"ort-cpu cannot be imported: .*pip install 'pixrt\[cpu\]'"):
        open_backend("ort-cpu", BUNDLE)


def test_a_new_backend_is_one_entry(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed, takes and refuses options, and is told by `pixrt doctor` when the list has it."""
    from pixrt.backends import registry

    def refuse(info: BackendInfo, bundle: Bundle, options: SessionOptions) -> Backend:
        raise BackendError(f"{info.name} has no device", remedy=info.install)

    new = BackendInfo(
        name="slide-rule", summary="by hand", open=refuse, extra="slides", packages=("slides",), is_automatic=False
    )
    monkeypatch.setattr(registry, "BACKENDS", (*BACKENDS, new))
    assert "backend slide-rule        no, slide-rule has no device" in run("doctor").out
    outcome = run("edit", "scene.png", BLUE, "-o", "o.png", "--backend", "slide-rule")
    assert outcome.code == 6
    assert "slide-rule has no device. Install it: `pip install 'pixrt[slides]'`" in outcome.err
    assert "slide-rule" in run("edit", "scene.png", BLUE, "-o", "o.png", "--backend", "abacus").err
