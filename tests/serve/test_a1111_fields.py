"""A1111's fields in pixrt's words: what acts, what asks for nothing, what is refused by name."""

import pytest

from pixrt.options.choices import SCHEDULERS
from pixrt.pictures.a1111 import SAMPLERS, SCHEDULES
from pixrt.serve.interfaces.a1111_fields import Wanted, read_img2img, read_txt2img
from pixrt.serve.problems import Problem

# What webuiapi 0.9.17 sends, by its source, beside what its caller said.
WEBUIAPI = {
    "styles": [],
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 20,
    "cfg_scale": 7.0,
    "width": 512,
    "height": 512,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "sampler_name": "Euler a",
    "scheduler": "automatic",
    "sampler_index": "Euler a",
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
}
IMG2IMG = WEBUIAPI | {
    "init_images": ["data:image/png;base64,AA=="],
    "resize_mode": 0,
    "denoising_strength": 0.75,
    "mask_blur": 4,
    "inpainting_fill": 0,
    "inpaint_full_res": True,
    "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0,
    "initial_noise_multiplier": 1,
    "prompt": "make it blue",
    "image_cfg_scale": 1.5,
    "include_init_images": False,
}
TXT2IMG = WEBUIAPI | {
    "enable_hr": False,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "hr_checkpoint_name": None,
    "hr_sampler_name": None,
    "hr_scheduler": None,
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "prompt": "a circle",
}


def edit(**more: object) -> Wanted:
    return read_img2img(IMG2IMG | more, ("edit", "generate", "style"), "dpmpp_2m")


def paint(**more: object) -> Wanted:
    return read_img2img(IMG2IMG | more, ("generate", "img2img", "inpaint"), "dpmpp_2m")


def test_a_clients_defaults_are_an_edit() -> None:
    wanted = edit()
    assert (wanted.task, wanted.text, wanted.mask, wanted.has_size) == ("edit", "make it blue", None, True)
    assert wanted.values == {
        "negative_prompt": "",
        "scheduler": "euler_ancestral",
        "steps": 20,
        "guidance_scale": 7.0,
        "image_guidance_scale": 1.5,
    }


def test_a_clients_defaults_are_a_generation() -> None:
    wanted = read_txt2img(TXT2IMG | {"seed": 4}, "dpmpp_2m")
    assert (wanted.task, wanted.text, wanted.has_size) == ("generate", "a circle", False)
    assert wanted.values["seed"] == 4
    assert (wanted.values["width"], wanted.values["height"]) == (512, 512)


def test_a_text_to_image_model_begins_with_the_picture() -> None:
    wanted = paint()
    assert (wanted.task, wanted.values["strength"]) == ("img2img", 0.75)
    assert "image_guidance_scale" not in wanted.values
    assert paint(denoising_strength=0.4).values["strength"] == 0.4


@pytest.mark.parametrize(
    ("strength", "fill", "is_taken"), [(0.5, 1, True), (0.5, 0, False), (1, 0, True), (1, 2, True)]
)
def test_what_is_under_the_mask_matters_below_full_strength(strength: float, fill: int, is_taken: bool) -> None:
    asked = {"mask": "AA==", "denoising_strength": strength, "inpainting_fill": fill}
    if is_taken:
        assert (paint(**asked).task, paint(**asked).mask) == ("inpaint", "AA==")
    else:
        with pytest.raises(Problem, match="inpainting_fill is 0") as raised:
            paint(**asked)
        assert raised.value.param == "inpainting_fill"


def test_a_masked_region_keeps_the_picture_as_large_as_it_is() -> None:
    region = edit(mask="AA==", inpaint_full_res_padding=16, inpainting_mask_invert=1)
    assert (region.values["mask_padding"], region.values["mask_blur"]) == (16, 4)
    assert (region.has_size, region.values["invert_mask"]) == (False, True)
    whole = edit(mask="AA==", inpaint_full_res=False, mask_blur=None, mask_blur_x=7, mask_blur_y=7)
    assert "mask_padding" not in whole.values
    assert (whole.values["mask_blur"], whole.has_size, whole.values["invert_mask"]) == (7, True, False)


def test_a_masks_fields_say_nothing_without_one() -> None:
    assert not {"mask_blur", "mask_padding"} & edit(mask_blur=9, inpainting_fill=3).values.keys()


def test_loras_stand_in_the_prompt() -> None:
    wanted = edit(prompt="make it <lora:old:0.8> blue <lora:ink>")
    assert (wanted.text, wanted.loras) == ("make it  blue", ("old:0.8", "ink:1"))


@pytest.mark.parametrize(
    ("sampler", "schedule", "scheduler"),
    [
        ("Euler a", "automatic", "euler_ancestral"),
        ("euler A", "Automatic", "euler_ancestral"),
        ("DPM++ 2M", "Karras", "dpmpp_2m_karras"),
        ("DPM++ 2M", "uniform", "dpmpp_2m"),
        ("DPM++ 2M Karras", None, "dpmpp_2m_karras"),
        ("PLMS", "", "pndm"),
        ("unipc", "automatic", "unipc"),
        ("dpmpp_2m_sde", None, "dpmpp_2m_sde"),
    ],
)
def test_samplers(sampler: str, schedule: str | None, scheduler: str) -> None:
    assert edit(sampler_name=sampler, scheduler=schedule).values["scheduler"] == scheduler


def test_every_solver_has_a_sampler() -> None:
    assert {scheduler for known in SAMPLERS.values() for scheduler in known.values()} == set(SCHEDULERS)
    assert {schedule for known in SAMPLERS.values() for schedule in known} == set(SCHEDULES)


def test_no_sampler_is_the_models_own() -> None:
    wanted = read_img2img({"init_images": ["AA=="], "prompt": "x"}, ("edit",), "ddim")
    assert wanted.values == {}
    assert not wanted.has_size


@pytest.mark.parametrize(
    ("sampler", "eta", "found"), [("DDIM", 1.0, 1.0), ("DDIM", 0.3, 0.3), ("Euler", 0.3, None), ("Euler a", 1, None)]
)
def test_eta(sampler: str, eta: float, found: float | None) -> None:
    assert edit(sampler_name=sampler, eta=eta).values.get("eta") == found


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("restore_faces", True, "unsupported_parameter"),
        ("tiling", True, "unsupported_parameter"),
        ("script_name", "loopback", "unsupported_parameter"),
        ("alwayson_scripts", {"controlnet": {"args": []}}, "unsupported_parameter"),
        ("styles", ["old"], "unsupported_parameter"),
        ("subseed_strength", 0.5, "unsupported_parameter"),
        ("send_images", False, "unsupported_parameter"),
        ("resize_mode", 2, "unsupported_parameter"),
        ("denoising_strength", 0.3, "unsupported_parameter"),
        ("eta", 0, "unsupported_parameter"),
        ("sampler_name", "Heun", "unsupported_value"),
        ("scheduler", "exponential", "unsupported_value"),
        ("sampler_name", 3, "invalid_value"),
        ("prompt", 3, "invalid_value"),
        ("init_images", [], "invalid_value"),
        ("init_images", ["AA==", "AA=="], "invalid_value"),
        ("init_images", "AA==", "invalid_value"),
        ("mask", 3, "invalid_value"),
        ("enable_hr", False, "unknown_parameter"),
        ("step", 3, "unknown_parameter"),
    ],
)
def test_what_is_not_done_is_refused_by_name(field: str, value: object, code: str) -> None:
    with pytest.raises(Problem) as raised:
        edit(**{field: value})
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, code, field)
    assert field in raised.value.message


def test_a_second_pass_is_refused() -> None:
    with pytest.raises(Problem, match="enable_hr is True"):
        read_txt2img(TXT2IMG | {"enable_hr": True}, "ddim")
    with pytest.raises(Problem, match="init_images"):
        read_txt2img(TXT2IMG | {"init_images": []}, "ddim")
