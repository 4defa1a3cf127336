"""The field table of the OpenAI interface, row by row, and how fields are read: knows no HTTP."""

import base64
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.options.choices import PRESETS
from pixrt.options.fields import option_fields
from pixrt.options.tasks import TASK_OPTIONS, EditOptions, GenerateOptions, StyleOptions
from pixrt.serve.interfaces.fields import Fields, Upload
from pixrt.serve.interfaces.orders import Order, Shop, order_edit, order_generation, order_job
from pixrt.serve.interfaces.wanted import ImageFields
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Asked, Output
from serving import MODEL, PICTURE

SHOP = Shop(MODEL, ("watercolour", "ink:wash"), max_prompt=100)
EDIT = [("prompt", "make it red"), ("image", Upload(PICTURE))]
Items = list[tuple[str, Any]]


def edit(*more: tuple[str, Any]) -> Order:
    return order_edit(Fields([*EDIT, *more]), SHOP)


def generate(**fields: Any) -> Order:
    return order_generation(Fields({"prompt": "a circle", **fields}.items(), is_json=True), SHOP)


def job(**fields: Any) -> Order:
    return order_job(Fields(fields.items(), is_json=True), SHOP)


def refused(*items: tuple[str, Any]) -> Problem:
    """What an edit with these fields as well is refused with."""
    with pytest.raises(Problem) as caught:
        edit(*items)
    return caught.value


ACTED_ON: list[tuple[str, str, str, Any]] = [
    ("n", "3", "n", 3),
    ("output_format", "jpeg", "output", Output("jpeg", 95)),
    ("output_format", "webp", "output", Output("webp", 95)),
    ("output_compression", "100", "output", Output("png", 100)),
    ("deadline_ms", "1500", "deadline_ms", 1500),
    ("size", "auto", "size", None),
    ("size", "512x384", "size", (512, 384)),
    ("lora", "watercolour", "loras", (("watercolour", 1.0),)),
    ("lora", "watercolour:0.5", "loras", (("watercolour", 0.5),)),
    ("lora", "ink:wash", "loras", (("ink:wash", 1.0),)),
    ("lora", "ink:wash:-1e-1", "loras", (("ink:wash", -0.1),)),
]


@pytest.mark.parametrize(("name", "value", "attribute", "wanted"), ACTED_ON)
def test_what_is_acted_on(name: str, value: str, attribute: str, wanted: Any) -> None:
    order = edit((name, value))
    found = len(order.asked) if attribute == "n" else getattr(order.asked[0], attribute)
    assert found == wanted


def test_an_edit_as_the_sdk_sends_it() -> None:
    """Text fields first, lists as `name[]`, numbers as text, the picture last, as one of a list."""
    fields = [
        ("prompt", "make it red"),
        ("model", "demo"),
        ("guidance_interval[]", "0.1"),
        ("guidance_interval[]", "0.8"),
        ("lora[]", "watercolour:2"),
        ("lora[]", "ink:wash"),
        ("num_inference_steps", "7"),
        ("guidance_scale", "3"),
        ("image_guidance_scale", "1.5"),
        ("negative_prompt", "blue"),
        ("scheduler", "euler"),
        ("seed", "9"),
        ("image[]", Upload(PICTURE)),
    ]
    (asked,) = order_edit(Fields(fields), SHOP).asked
    options = EditOptions(
        steps=7,
        guidance_scale=3,
        image_guidance_scale=1.5,
        negative_prompt="blue",
        scheduler="euler",
        seed=9,
        guidance_interval=(0.1, 0.8),
    )
    assert asked == Asked(
        options=options, text="make it red", image=PICTURE, loras=(("watercolour", 2.0), ("ink:wash", 1.0))
    )


@pytest.mark.parametrize("kind", TASK_OPTIONS.values())
def test_every_option_of_a_task_is_a_field(kind: type[Any]) -> None:
    values: dict[str, Any] = {
        "preset": "fast",
        "steps": 5,
        "guidance_scale": 3.0,
        "guidance_interval": [0.0, 0.5],
        "scheduler": "ddim",
        "eta": 0.5,
        "seed": 4,
        "negative_prompt": "no",
        "weighting": False,
        "long_prompts": True,
        "budget_ms": None,
        "branch_interval": 2,
        "cache_interval": 3,
        "detail": False,
        "resize": "fit",
        "resolution": 64,
        "image_guidance_scale": 1.5,
        "mask_blur": 2,
        "mask_padding": 3,
        "invert_mask": True,
        "width": 64,
        "height": 72,
        "strength": 0.5,
        "content_weight": 0.1,
        "style_weight": 0.3,
        "style_interval": [0.0, 0.4],
        "style_patch": 1,
    }
    names = option_fields(kind)
    assert names.keys() <= values.keys(), "a new option: say a value for it here"
    shop = Shop(dataclasses.replace(MODEL, tasks=tuple(TASK_OPTIONS)), (), 100)
    picture = base64.b64encode(PICTURE).decode()
    pictures = dict.fromkeys(kind.needs, picture)
    items = {"task": kind.task, **pictures, **{name: values[name] for name in names}}
    (asked,) = order_job(Fields(items.items(), is_json=True), shop).asked
    for name in names:
        wanted = tuple(values[name]) if isinstance(values[name], list) else values[name]
        assert getattr(asked.options, name) == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("quality", value) for value in ("auto", "standard", "medium")),
        *(("background", value) for value in ("auto", "opaque")),
        *(("moderation", value) for value in ("auto", "low")),
        ("response_format", "b64_json"),
        ("size", "auto"),
        ("model", "demo"),
        ("partial_images", "3"),  # without a stream
        ("stream", "false"),
        ("user", "somebody"),
        ("safety_identifier", "4f"),
    ],
)
def test_what_asks_for_nothing(name: str, value: str) -> None:
    assert edit(("seed", "1"), (name, value)).asked == edit(("seed", "1")).asked


@pytest.mark.parametrize(("quality", "preset"), [("low", "fast"), ("high", "quality")])
def test_qualities_are_presets(quality: str, preset: str) -> None:
    options = edit(("quality", quality)).asked[0].options
    assert (options.preset, preset in PRESETS) == (preset, True)
    assert refused(("quality", quality), ("preset", "fast")).param == "quality"


UNSUPPORTED_VALUES = [
    ("response_format", "url"),
    ("output_format", "gif"),
    ("output_format", "svg"),
    ("background", "transparent"),
    *(("quality", value) for value in ("xhigh", "max", "hd")),
]


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED_VALUES)
def test_unsupported_values(name: str, value: str) -> None:
    problem = refused((name, value))
    assert (problem.status, problem.code, problem.param) == (400, "unsupported_value", name)
    assert repr(value) in problem.message


UNSUPPORTED_PARAMETERS: list[tuple[str, Any, str]] = [
    ("input_fidelity", "high", "image_guidance_scale"),
    ("complexity", "low", "steps"),
    ("markup", Upload(PICTURE), "mask"),
    ("frame_count", "3", "One picture"),
    ("frame_duration_ms", "100", "One picture"),
    ("svg[model]", "x", "PNG"),
    ("style", "vivid", "prompt"),
    ("image_url", "https://example.org/p.png", "the picture itself"),
    ("file_id", "file-1", "the picture itself"),
    ("image", Upload(PICTURE), "2 times"),
    ("image[]", Upload(PICTURE), "2 times"),
]


@pytest.mark.parametrize(("name", "value", "words"), UNSUPPORTED_PARAMETERS)
def test_unsupported_parameters(name: str, value: Any, words: str) -> None:
    problem = refused((name, value))
    param = name.partition("[")[0]
    assert (problem.status, problem.code, problem.param) == (400, "unsupported_parameter", param)
    assert words in problem.message


@pytest.mark.parametrize("text", ["https://example.org/p.png", "/etc/passwd", "file-abc", "p.png", "data:,x"])
def test_a_text_is_never_a_picture(text: str) -> None:
    """Not a path, not a URL, not a file's id; in JSON it is base64 or nothing."""
    for name in ("image", "mask"):
        items = [item for item in EDIT if item[0] != name]
        with pytest.raises(Problem) as caught:
            order_edit(Fields([*items, (name, text)]), SHOP)
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported_parameter", name)
    with pytest.raises(Problem) as caught:
        job(task="edit", image=text)
    assert (caught.value.status, caught.value.param) == (400, "image")


UNKNOWN: list[tuple[str, str, str]] = [
    ("promt", "x", "Did you mean prompt?"),
    ("guidance_scal", "2", "Did you mean guidance_scale?"),
    ("num_inference_step", "2", "Did you mean num_inference_steps?"),
    ("qqqq", "2", "Leave it out."),
    ("strength", "0.5", ""),  # of another task
    ("seed[x]", "1", ""),
    ("task", "edit", ""),
]


@pytest.mark.parametrize(("name", "value", "words"), UNKNOWN)
def test_unknown_parameters(name: str, value: str, words: str) -> None:
    problem = refused((name, value))
    assert (problem.status, problem.code, problem.param) == (400, "unknown_parameter", name)
    assert repr(name) in problem.message
    assert words in problem.message


@pytest.mark.parametrize(
    "items",
    [
        [("seed", "1"), ("seed", "2")],
        [("seed", "1"), ("seed[]", "1")],
        [("steps", "1"), ("num_inference_steps", "1")],
        [("prompt", "again")],
        [("output_format", "png"), ("output_format", "jpeg")],
        [("guidance_interval", "0"), ("guidance_interval", "1"), ("guidance_interval", "1")],
    ],
)
def test_a_scalar_given_twice(items: Items) -> None:
    problem = refused(*items)
    assert (problem.status, problem.code, problem.param) == (400, "unknown_parameter", items[-1][0].removesuffix("[]"))


@pytest.mark.parametrize("name", ["seed", "num_inference_steps", "guidance_scale", "n", "deadline_ms"])
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_number(name: str, text: str) -> None:
    problem = refused((name, text))
    assert (problem.status, problem.code, problem.param) == (400, "unknown_parameter", name)


WRONG: list[tuple[str, Any]] = [
    ("n", "0"),
    ("n", "11"),
    ("n", "1.5"),
    ("seed", "-1"),
    ("num_inference_steps", "0"),
    ("guidance_scale", "nan"),
    ("scheduler", "heun"),
    ("guidance_interval", "1 0"),
    ("output_format", "tiff"),
    ("output_compression", "50"),  # of a PNG
    ("output_compression", "101"),
    ("quality", "best"),
    ("stream", "yes"),
    ("partial_images", "4"),
    ("deadline_ms", "0"),
    ("size", "512"),
    ("size", "0x512"),
    ("size", "512x512x3"),
    ("size", ""),
    ("lora", "nobody:x"),
    ("seed", Upload(b"4")),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_values_name_their_field_as_the_client_does(name: str, value: Any) -> None:
    problem = refused((name, value))
    assert (problem.status, problem.code, problem.param) == (400, "invalid_value", name)
    assert problem.headers == {"x-should-retry": "false"}


def test_too_long_a_text() -> None:
    assert edit(("negative_prompt", "x" * 100)).asked
    for name in ("prompt", "negative_prompt"):
        fields = {"prompt": "", "image": Upload(PICTURE), name: "x" * 101}
        with pytest.raises(Problem) as caught:
            order_edit(Fields(fields.items()), SHOP)
        assert (caught.value.code, caught.value.param) == ("string_above_max_length", name)


def test_what_is_missing_is_named() -> None:
    for name in ("prompt", "image"):
        with pytest.raises(Problem) as caught:
            order_edit(Fields([item for item in EDIT if item[0] != name]), SHOP)
        assert (caught.value.code, caught.value.param) == ("missing_required_parameter", name)


def test_another_model() -> None:
    problem = refused(("model", "gpt-image-1"))
    assert (problem.status, problem.code, problem.param) == (404, "model_not_found", "model")
    assert "demo" in problem.message


def test_an_unknown_lora() -> None:
    problem = refused(("lora", "watercolor"))
    assert (problem.status, problem.code, problem.param) == (400, "invalid_lora", "lora")
    assert "watercolour" in problem.message


def test_seeds_count_up() -> None:
    assert [asked.options.seed for asked in edit(("n", "3"), ("seed", "7")).asked] == [7, 8, 9]
    drawn = [asked.options.seed for asked in edit(("n", "2")).asked]
    assert drawn[0] is not None
    assert drawn[1] == drawn[0] + 1
    assert refused(("n", "2"), ("seed", str(2**63 - 1))).param == "seed"


def test_previews_only_with_a_stream() -> None:
    assert edit(("partial_images", "2"), ("stream", "true")).asked[0].previews == 2
    assert edit(("partial_images", "2")).asked[0].previews == 0
    assert job(task="generate", partial_images=9).asked[0].previews == 9


class TestSize:
    def test_of_an_edit_keeps_the_shape(self) -> None:
        asked = edit(("size", "640x480")).asked[0]
        assert (asked.size, asked.same_shape) == ((640, 480), True)
        assert (edit().asked[0].size, edit().asked[0].same_shape) == (None, False)

    def test_of_a_new_picture(self) -> None:
        options = generate(size="72x64").asked[0].options
        assert isinstance(options, GenerateOptions)
        assert (options.width, options.height) == (72, 64)

    @pytest.mark.parametrize(("size", "near"), [("100x64", "96x64"), ("640x64", "640x80"), ("9000x2048", "8192x2048")])
    def test_that_cannot_be(self, size: str, near: str) -> None:
        with pytest.raises(Problem) as caught:
            generate(size=size)
        assert (caught.value.code, caught.value.param) == ("unsupported_value", "size")
        assert near in caught.value.message
        assert generate(size=near).asked

    def test_beyond_the_caps(self) -> None:
        problem = refused(("size", "8192x8192"))
        assert (problem.code, problem.param) == ("unsupported_value", "size")
        with pytest.raises(Problem, match="megapixels"):
            generate(size="8192x8192")

    def test_and_something_else_that_says_it(self) -> None:
        assert refused(("size", "64x64"), ("resize", "fit")).param == "size"
        with pytest.raises(Problem, match="Give one"):
            generate(size="64x64", width=64)


class TestJson:
    def test_a_null_says_nothing(self) -> None:
        given = generate(seed=3, n=None, size=None, user=None, steps=None)
        assert given.asked == generate(seed=3).asked

    def test_pictures_are_base64(self) -> None:
        text = base64.b64encode(PICTURE).decode()
        for value in (text, f"data:image/png;base64,{text}"):
            assert job(task="edit", image=value).asked[0].image == PICTURE
        with pytest.raises(Problem) as caught:
            job(task="edit", image=text[:-3])
        assert (caught.value.code, caught.value.param) == ("invalid_value", "image")

    @pytest.mark.parametrize("value", [3, [3], {"url": "x"}, True, [["x"]]])
    def test_what_is_no_picture(self, value: Any) -> None:
        with pytest.raises(Problem) as caught:
            job(task="edit", image=value)
        assert (caught.value.status, caught.value.param) == (400, "image")

    def test_half_a_character(self) -> None:
        for fields in ({"negative_prompt": "\ud800"}, {"\ud800": 1}):
            with pytest.raises(Problem) as caught:
                generate(**fields)
            assert caught.value.status == 400
            caught.value.message.encode()


class TestJobs:
    def test_style_is_a_picture_there(self) -> None:
        picture = base64.b64encode(PICTURE).decode()
        (asked,) = job(task="style", image=picture, style=picture, style_weight=0.9).asked
        assert isinstance(asked.options, StyleOptions)
        assert (asked.style, asked.options.style_weight) == (PICTURE, 0.9)

    @pytest.mark.parametrize(
        ("fields", "code", "param"),
        [
            ({}, "missing_required_parameter", "task"),
            ({"task": "paint"}, "invalid_value", "task"),
            ({"task": ["edit"] * 2}, "invalid_value", "task"),
            ({"task": 3}, "invalid_value", "task"),
            ({"task": "inpaint"}, "unsupported_task", "model"),
            ({"task": "style", "image": "AAAA"}, "missing_required_parameter", "style"),
            ({"task": "generate", "image": "AAAA"}, "unknown_parameter", "image"),
            ({"task": "generate", "stream": True}, "unknown_parameter", "stream"),
            ({"task": "generate", "partial_images": 11}, "invalid_value", "partial_images"),
        ],
    )
    def test_what_is_refused(self, fields: dict[str, Any], code: str, param: str) -> None:
        with pytest.raises(Problem) as caught:
            job(**fields)
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)


def test_a_text_to_image_model_edits_by_what_it_has() -> None:
    model = dataclasses.replace(MODEL, tasks=("generate", "img2img", "inpaint", "style"))
    shop = Shop(model, (), 100)
    assert order_edit(Fields(EDIT), shop).asked[0].options.task == "img2img"
    masked = order_edit(Fields([*EDIT, ("mask", Upload(PICTURE)), ("strength", "0.5")]), shop).asked[0]
    assert (masked.options.task, masked.mask) == ("inpaint", PICTURE)
    only = dataclasses.replace(MODEL, tasks=("generate",))
    with pytest.raises(Problem, match="cannot edit") as caught:
        order_edit(Fields(EDIT), Shop(only, (), 100))
    assert caught.value.status == 400


def test_what_the_worker_refuses_is_called_as_the_client_does() -> None:
    order = edit(("num_inference_steps", "60"), ("quality", "low"))
    assert order.told(Problem(400, "invalid_value", "", "steps")).param == "num_inference_steps"
    assert order.told(Problem(400, "invalid_value", "", "preset")).param == "quality"
    assert order.told(Problem(400, "invalid_image", "", "image")).param == "image"
    assert generate(size="64x64").told(Problem(413, "image_too_large", "", "width")).param == "size"


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers())


@given(
    st.dictionaries(
        st.sampled_from([*option_fields(ImageFields), *option_fields(EditOptions), "image", "lora", "task"])
        | st.text(),
        ANYTHING,
    )
)
def test_anything_is_an_order_or_a_problem(fields: dict[str, Any]) -> None:
    """Any other exception would be a 500."""
    picture = {"image": base64.b64encode(PICTURE).decode()}
    for order, least in (
        (order_edit, {"prompt": "", **picture}),
        (order_generation, {"prompt": ""}),
        (order_job, {"task": "edit", **picture}),
    ):
        problem = None
        try:
            order(Fields({**least, **fields}.items(), is_json=True), SHOP)
        except Problem as error:
            problem = error
        assert problem is None or problem.status in (400, 404)
        json.dumps(problem and problem.body, ensure_ascii=False).encode()
