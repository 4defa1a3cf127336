"""Options are checked once, with the number and the range in the message."""

import dataclasses
import typing

import pytest

from pixrt.bundles.manifest import Defaults
from pixrt.errors import OptionError
from pixrt.options import parameters
from pixrt.options.choices import SCHEDULERS
from pixrt.options.session import MAX_BATCH, SessionOptions
from pixrt.options.tasks import (
    TASK_OPTIONS,
    EditOptions,
    GenerateOptions,
    Img2ImgOptions,
    InpaintOptions,
    StyleOptions,
)

PAIRS = [
    (parameters.SessionParameters, SessionOptions),
    (parameters.EditParameters, EditOptions),
    (parameters.GenerateParameters, GenerateOptions),
    (parameters.Img2ImgParameters, Img2ImgOptions),
    (parameters.InpaintParameters, InpaintOptions),
    (parameters.StyleParameters, StyleOptions),
]
DEFAULTS = Defaults(steps=100, guidance_scale=7.5, image_guidance_scale=1.5, scheduler="euler_ancestral")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": -1},
        {"steps": 1001},
        {"steps": 2.5},
        {"steps": True},
        {"steps": "20"},
        {"guidance_scale": -0.1},
        {"guidance_scale": 1e9},
        {"guidance_scale": float("nan")},
        {"guidance_scale": float("inf")},
        {"image_guidance_scale": "1.5"},
        {"image_guidance_scale": -1},
        {"eta": 1.5},
        {"eta": -0.1},
        {"eta": None},
        {"steps": 10**400},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 1.0},
        {"scheduler": "heun"},
        {"scheduler": ""},
        {"resize": "stretch"},
        {"resolution": 8},
        {"resolution": 100_000},
        {"negative_prompt": 3},
        {"guidance_interval": (0.5,)},
        {"guidance_interval": (0.8, 0.2)},
        {"guidance_interval": (-0.1, 1.0)},
        {"guidance_interval": (0.0, 1.1)},
        {"guidance_interval": [0.0, 1.0]},
        {"guidance_interval": ("0", "1")},
        {"guidance_interval": (float("nan"), 1.0)},
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, typing.Any]) -> None:
    with pytest.raises(OptionError) as caught:
        EditOptions(**wrong)
    (name,) = wrong
    assert name in caught.value.problem
    assert caught.value.remedy


def test_defaults_fill_only_what_was_not_said() -> None:
    options = EditOptions(steps=7, guidance_scale=0).resolve(DEFAULTS)
    assert (options.steps, options.guidance_scale) == (7, 0)
    assert (options.image_guidance_scale, options.scheduler) == (1.5, "euler_ancestral")
    assert options.seed is None


def test_eta_belongs_to_ddim() -> None:
    assert EditOptions(eta=0.5, scheduler="ddim").resolve(DEFAULTS).eta == 0.5
    with pytest.raises(OptionError, match="euler_ancestral has no eta"):
        EditOptions(eta=0.5).resolve(DEFAULTS)


@pytest.mark.parametrize(("parameters", "options"), PAIRS)
def test_the_keyword_arguments_are_the_fields(parameters: type, options: type) -> None:
    """By name, and by type: only a seed may be a list, one for each picture of a call."""
    given, kept = typing.get_type_hints(parameters), typing.get_type_hints(options)
    assert list(given) == [field.name for field in dataclasses.fields(options)]
    assert {name: hint for name, hint in given.items() if name != "seed"} == {
        name: kept[name] for name in given if name != "seed"
    }


def test_every_task_says_what_it_takes() -> None:
    from pixrt.tasks.registry import TASKS

    assert set(TASK_OPTIONS.values()) == set(TASKS)
    takes = {name: (sorted(kind.needs), sorted(kind.may_have)) for name, kind in TASK_OPTIONS.items()}
    assert takes == {
        "edit": (["image"], ["mask"]),
        "generate": ([], []),
        "img2img": (["image"], []),
        "inpaint": (["image", "mask"], []),
        "style": (["image", "style"], []),
    }


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cpu_precision": "int4"}, "Choose one of fp32, bf16"),
        ({"threads": 0}, "four times the cores here"),
        ({"threads": "2"}, "threads is '2'"),
        ({"max_batch": MAX_BATCH + 1}, "max_batch is 65. It must be from 1 to 64"),
        ({"max_batch": True}, "which is not a whole number"),
        ({"tile": 64.0}, "tile is 64.0"),
        ({"low_memory": 1}, "low_memory is 1. It must be true or false"),
        ({"cuda_graphs": None}, "cuda_graphs is None"),
        ({"provider_options": {"device_id": 0}}, "Give texts by their names"),
        ({"provider_options": "device_id=0"}, "Give texts by their names"),
        ({"weight_budget_mib": 0}, "weight_budget_mib is 0. It must be from 1 to 1048576"),
    ],
)
def test_wrong_session_options(wrong: dict[str, typing.Any], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        SessionOptions(**wrong)
    assert words in str(caught.value)


def test_an_editor_takes_options_and_names() -> None:
    from pixrt import Editor

    with Editor("shapes", SessionOptions(backend="null", tile=64), tile=128) as editor:
        assert (editor.backend, editor.tile) == ("null", 128)  # what is given by name comes first
    with pytest.raises(TypeError, match="thread"):
        Editor("shapes", thread=3)  # type: ignore[call-arg]


def test_what_is_kept_is_plain_numbers() -> None:
    import numpy as np

    options = EditOptions(steps=np.int32(3), guidance_scale=2, guidance_interval=(0, np.float32(0.5)))  # type: ignore[arg-type]
    kept = (options.steps, options.guidance_scale, *options.guidance_interval)
    assert [type(value) for value in kept] == [int, float, float, float]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_accepted(name: str) -> None:
    assert EditOptions(scheduler=name).scheduler == name  # type: ignore[arg-type]
