"""The schemas are JSON Schema, and say what the options themselves accept."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pixrt.errors import OptionError
from pixrt.options.fields import option_fields
from pixrt.options.parsing import parse_all
from pixrt.options.schema import json_schema
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import TASK_OPTIONS, EditOptions
from pixrt_engines.options import Knobs

CLASSES: dict[str, type[Any]] = {**TASK_OPTIONS, "session": SessionOptions}
VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 3, 64, 1001, 2**63, 0.5, 1.5, [0, 1], [0.5], [0, 0.5, 1], [-1, 1]),
    *({}, {"device_id": "0"}, {"device_id": 0}),
]
TEXTS = ["", "ddim", "fast", "exact", "auto", "null", "heun", "a text"]


@pytest.mark.parametrize("name", CLASSES)
def test_it_is_a_schema_of_every_field(name: str) -> None:
    schema = json_schema(CLASSES[name], name, {})
    Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == list(option_fields(CLASSES[name]))
    for each in schema["properties"].values():
        assert each["description"]
        assert each["x-group"]
        Draft202012Validator(each).validate(each["default"])


@pytest.mark.parametrize("name", CLASSES)
def test_it_accepts_what_the_options_accept(name: str) -> None:
    """Numbers as JSON has them. Of texts only those of texts and choices: parsing takes numbers as text too."""
    options = CLASSES[name]
    schema = json_schema(options, name, {})
    validator = Draft202012Validator(schema)
    for field, described in schema["properties"].items():
        textual = "string" in described["type"]
        for value in [*VALUES, *(TEXTS if textual else [])]:
            try:
                parse_all(options, {field: value})
            except OptionError:
                accepted = False
            else:
                accepted = True
            assert validator.is_valid({field: value}) == accepted, (field, value)
    assert not validator.is_valid({"stepz": 3})


@pytest.mark.parametrize(
    ("given", "words"),
    [({"guidance_interval": [0.8, 0.2]}, "first <= second"), ({"steps": 5.0}, "which is not a whole number")],
)
def test_what_json_schema_cannot_say(given: dict[str, Any], words: str) -> None:
    """That the first end of a window is before the second, and that 5.0 is not written for 5: the options say it."""
    assert Draft202012Validator(json_schema(EditOptions, "edit", {})).is_valid(given)
    with pytest.raises(OptionError, match=words):
        parse_all(EditOptions, given)


def test_defaults_of_a_bundle() -> None:
    schema = json_schema(EditOptions, "edit", {"steps": 20})
    assert schema["properties"]["steps"]["default"] == 20
    assert schema["properties"]["guidance_interval"]["default"] == [0.0, 1.0]


def test_a_path_is_in_no_schema() -> None:
    assert "timing_cache" not in json_schema(Knobs, "engine", {})["properties"]
