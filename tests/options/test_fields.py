"""Fields that carry their rules: every kind out of Python, texts and JSON; what is refused, and in which words."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.errors import OptionError
from pixrt.options.fields import Rule, group_of, option, option_fields, range_of, validate
from pixrt.options.parsing import parse, parse_all, spell
from pixrt.options.tasks import EditOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field of each kind."""

    plain: str = ""  # no option: nobody checks it
    count: int = option(3, "A count.", kind="whole", low=1, high=1000)
    most: int | None = option(None, "A count or none.", kind="whole", low=0)
    scale: float = option(1.0, "A scale.", kind="number", low=0, high=100)
    rate: float = option(0.5, "A rate.", kind="number", above=0, below=1)
    free: float = option(0.0, "Any number.", kind="number")
    mode: str = option("fast", "A mode.", kind="choice", choices=("fast", "slow"))
    window: tuple[float, float] = option((0.0, 1.0), "A window.", kind="window")
    note: str = option("", "A note.", kind="text")
    loud: bool = option(False, "Loud.", kind="flag", group="Voice")
    pairs: Mapping[str, str] | None = option(None, "Pairs.", kind="pairs")
    folder: Path | None = option(None, "A folder.", kind="path")

    def __post_init__(self) -> None:
        validate(self)


FIELDS = option_fields(Settings)
RIGHT: list[tuple[str, Any, Any]] = [
    ("count", "5", 5),
    ("count", " 5 ", 5),
    ("count", "+5", 5),
    ("count", 5, 5),
    ("most", None, None),
    ("most", "9" * 400, int("9" * 400)),
    ("scale", "5", 5.0),
    ("scale", 5, 5.0),
    ("scale", "1e1", 10.0),
    ("scale", 0.25, 0.25),
    ("free", -1e300, -1e300),
    ("mode", "slow", "slow"),
    ("window", "0 0.8", (0.0, 0.8)),
    ("window", "0,0.8", (0.0, 0.8)),
    ("window", "0, 0.8", (0.0, 0.8)),
    ("window", [0, 0.8], (0.0, 0.8)),
    ("window", ["0", "0.8"], (0.0, 0.8)),
    ("note", "", ""),
    ("note", " as it is ", " as it is "),
    ("loud", True, True),
    ("loud", "true", True),
    ("loud", "False", False),
    ("pairs", {"a": "1"}, {"a": "1"}),
    ("pairs", ["a=1", "b=x:1=2,3"], {"a": "1", "b": "x:1=2,3"}),
    ("folder", Path("x"), Path("x")),
]
NOT_WHOLE = "which is not a whole number. It must be from 1 to 1000."
NO_WINDOW = "Pass two fractions of the steps, 0 <= first <= second <= 1"
WRONG: list[tuple[str, Any, str]] = [
    *(("count", value, NOT_WHOLE) for value in ("", " ", "five", "5.0", "0x5", "1_0", "٥", "9" * 5000)),
    *(("count", value, NOT_WHOLE) for value in (5.0, True, [5], {}, math.nan)),
    ("count", None, NOT_WHOLE),
    ("count", "0", "count is 0. It must be from 1 to 1000."),
    ("count", 1001, "count is 1001. It must be from 1 to 1000."),
    ("most", -1, "most is -1. It must be 0 or more."),
    ("most", "", "most is '', which is not a whole number"),
    *(
        ("scale", value, "which is not a number. It must be from 0 to 100.")
        for value in ("", "x", "1_0", True, [], None)
    ),
    *(
        ("scale", value, "It must be from 0 to 100.")
        for value in ("nan", "inf", "-inf", math.nan, math.inf, "-0.1", 101)
    ),
    *(("rate", value, "It must be more than 0 and less than 1.") for value in (0, "1", 1.0)),
    *(("free", value, "It must be finite.") for value in (math.nan, "inf", "1e999", 10**400)),
    *(("mode", value, "Choose one of fast, slow.") for value in ("", "medium", 1, None, ["fast"])),
    ("mode", "Fast", "Choose one of fast, slow; the nearest is fast."),
    *(("window", value, NO_WINDOW) for value in ("", "0.5", "0 0.5 1", "0.8 0.2", "-0.1 1", "0 1.1", "a b", "nan 1")),
    *(("window", value, NO_WINDOW) for value in ([], [0.5], [0, 0.5, 1], [True, 1], [None, 1], 0.5, None, {"a": 1})),
    *(("note", value, "Pass a string.") for value in (7, None, ["x"])),
    *(("loud", value, "It must be true or false.") for value in ("", "yes", "1", 1, 0, None)),
    *(("pairs", value, "Write it as NAME=VALUE.") for value in (["a"], ["=1"], [3])),
    *(("pairs", value, "Give texts by their names") for value in ("a=1", {"a": 1}, 3)),
    *(("folder", value, "Pass a pathlib.Path.") for value in ("/etc/passwd", "", 3, ["x"])),
]


@pytest.mark.parametrize(("name", "value", "wanted"), RIGHT)
def test_texts_and_json_by_the_same_rules(name: str, value: Any, wanted: Any) -> None:
    found = parse(FIELDS[name], value)
    assert (found, type(found)) == (wanted, type(wanted))
    assert getattr(Settings(**{name: found}), name) == wanted


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_what_is_wrong_is_named_with_what_to_do(name: str, value: Any, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(FIELDS[name], value)
    assert (caught.value.option, name in caught.value.problem) == (name, True)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 240


@pytest.mark.parametrize(
    ("name", "text"), [("count", "5"), ("scale", "5"), ("window", "0 1"), ("loud", "true"), ("window", [0.0, 1.0])]
)
def test_python_code_gives_no_texts(name: str, text: Any) -> None:
    with pytest.raises(OptionError, match=f"{name} is "):
        Settings(**{name: text})


WHOLES = st.integers(1, 1000)
SCALES = st.floats(0, 100) | st.integers(0, 100).map(float)
SHARES = st.floats(0, 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "count": WHOLES,
    "most": st.integers(0, 2**200),
    "scale": SCALES,
    "rate": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "free": st.floats(allow_nan=False, allow_infinity=False),
    "mode": st.sampled_from(["fast", "slow"]),
    "window": st.tuples(SHARES, SHARES).map(lambda pair: (min(pair), max(pair))),
    "note": st.text(),
    "loud": st.booleans(),
}


@pytest.mark.parametrize("name", VALUES)
@given(st.data())
def test_a_value_comes_back_from_its_text_and_from_json(name: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[name])
    assert parse(FIELDS[name], spell(value)) == value
    assert parse(FIELDS[name], json.loads(json.dumps(value))) == value


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: "=" not in name), st.text()))
def test_pairs_come_back_from_words(pairs: dict[str, str]) -> None:
    assert parse(FIELDS["pairs"], [f"{name}={value}" for name, value in pairs.items()]) == pairs


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats() | st.text()))
def test_anything_is_a_value_or_a_clear_error(value: Any) -> None:
    for name, field in FIELDS.items():
        try:
            found = parse(field, value)
        except OptionError:  # any other exception is a defect
            continue
        assert getattr(Settings(**{name: found}), name) == found


def test_unknown_names_are_refused() -> None:
    assert parse_all(Settings, {"count": "4", "loud": "true"}) == {"count": 4, "loud": True}
    for name in ("counts", "plain", "__class__"):
        with pytest.raises(OptionError, match="Known are count, most"):
            parse_all(Settings, {name: "4"})


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"low": 1, "high": 9}, "from 1 to 9"),
        ({"low": 0, "below": 1}, "from 0 to less than 1"),
        ({"low": 0}, "0 or more"),
        ({"above": 0}, "more than 0"),
        ({"above": 0, "high": 1}, "more than 0 and at most 1"),
        ({"above": 0, "below": 1}, "more than 0 and less than 1"),
        ({"high": 9}, "at most 9"),
        ({"below": 9}, "less than 9"),
        ({}, ""),
    ],
)
def test_ranges_in_words(bounds: dict[str, float], words: str) -> None:
    assert range_of(Rule("number", "", **bounds)) == words  # type: ignore[arg-type]


def test_groups() -> None:
    assert group_of(Settings, FIELDS["loud"]) == "Voice"
    assert group_of(EditOptions, option_fields(EditOptions)["steps"]) == "Edit"
    assert group_of(EditOptions, option_fields(EditOptions)["mask_blur"]) == "Mask"
