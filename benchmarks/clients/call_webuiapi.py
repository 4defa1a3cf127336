"""webuiapi: img2img, txt2img, masks, several pictures, the lists, progress, interrupt, errors."""

import io
import threading
import time
from collections.abc import Iterator

from calls import BLUE, CAPTION, MASK, SCENE, STAR, Same, Server, expect, make
from PIL import Image, ImageOps
from webuiapi import WebUIApi

SIZE = {"width": 64, "height": 64}
DEFAULTS = {"guidance_scale": 7.0, "image_guidance_scale": 1.5}  # of webuiapi


def api(server: Server) -> WebUIApi:
    return WebUIApi(baseurl=f"{server.url}/sdapi/v1", username="anybody", password=server.key, sampler="Euler")


def edit(server: Server) -> Iterator[Same]:
    answer = api(server).img2img(images=[Image.open(SCENE)], prompt=BLUE, seed=7, steps=4, **SIZE)
    expect("the seed", answer.info["seed"], 7)
    expect("all seeds", answer.info["all_seeds"], [7])
    yield Same(png(answer.image), parameters={"seed": 7, "steps": 4, "scheduler": "euler", **DEFAULTS})


def several(server: Server) -> Iterator[Same]:
    """With scales and a sampler of its own."""
    answer = api(server).img2img(
        images=[Image.open(SCENE)],
        prompt=BLUE,
        negative_prompt="red",
        seed=7,
        steps=3,
        batch_size=2,
        n_iter=1,
        cfg_scale=3,
        image_cfg_scale=1.2,
        sampler_name="DPM++ 2M",
        scheduler="karras",
        denoising_strength=1,
        **SIZE,
    )
    expect("all seeds", answer.info["all_seeds"], [7, 8])
    for seed, picture in zip((7, 8), answer.images, strict=True):
        parameters = {"seed": seed, "steps": 3, "scheduler": "dpmpp_2m_karras", "negative_prompt": "red"}
        yield Same(png(picture), parameters={**parameters, "guidance_scale": 3, "image_guidance_scale": 1.2})


def masked(server: Server) -> Iterator[Same]:
    """The whole picture with a mask turned around twice, then its masked region only."""
    given = {"images": [Image.open(SCENE)], "prompt": STAR, "mask_blur": 2, "seed": 4, "steps": 4, **SIZE}
    parameters = {"seed": 4, "steps": 4, "scheduler": "euler", "mask_blur": 2, **DEFAULTS}
    mask = Image.open(MASK).convert("L")
    answer = api(server).img2img(
        mask_image=ImageOps.invert(mask), inpainting_mask_invert=1, inpaint_full_res=False, **given
    )
    yield Same(png(answer.image), text=STAR, mask=True, parameters=parameters)
    answer = api(server).img2img(mask_image=mask, inpaint_full_res_padding=4, **given)
    yield Same(png(answer.image), text=STAR, mask=True, parameters={**parameters, "mask_padding": 4})


def another_size(server: Server) -> Iterator[Same]:
    answer = api(server).img2img(images=[Image.open(SCENE)], prompt=BLUE, seed=7, steps=2, width=96, height=64)
    expect("the size", answer.image.size, (96, 64))
    expect("the size that is told", (answer.info["width"], answer.info["height"]), (96, 64))
    yield from ()


def generate(server: Server) -> Iterator[Same]:
    answer = api(server).txt2img(prompt=CAPTION, seed=3, steps=4, **SIZE)
    parameters = {"seed": 3, "steps": 4, "scheduler": "euler", "guidance_scale": 7.0, **SIZE}
    yield Same(png(answer.image), "generate", CAPTION, parameters=parameters)


def lists(server: Server) -> Iterator[Same]:
    client = api(server)
    expect("whether the model is among the titles", any(server.model in t for t in client.util_get_model_names()), True)
    client.util_set_model(client.util_get_model_names()[0])
    expect("the current model", server.model in client.util_get_current_model(), True)
    expect("whether Euler a is a sampler", "Euler a" in client.util_get_sampler_names(), True)
    expect("whether Karras is a scheduler", "karras" in client.util_get_scheduler_names(), True)
    for ask in (client.get_loras, client.get_upscalers, client.get_scripts, client.get_embeddings, client.get_sd_vae):
        ask()
    yield from ()


def interrupt(server: Server) -> Iterator[Same]:
    """A long job shows its progress, and ends early once it is interrupted."""
    client, refused = api(server), []

    def long() -> None:
        try:
            api(server).img2img(images=[Image.open(SCENE)], prompt=BLUE, steps=1000, **SIZE)
        except RuntimeError as error:
            refused.append(error.args[0])

    thread = threading.Thread(target=long)
    thread.start()
    while not 0 < (progress := client.get_progress())["progress"] < 1:
        time.sleep(0.01)
    expect("the steps", progress["state"]["sampling_steps"], 1000)
    client.interrupt()
    thread.join(30)
    expect("the status of what was interrupted", refused, [499])
    client.util_wait_for_ready(0.05)
    yield from ()


def errors(server: Server) -> Iterator[Same]:
    for wrong in ({"restore_faces": True}, {"script_name": "x"}, {"sampler_name": "Heun"}, {"steps": 0}):
        try:
            api(server).img2img(images=[Image.open(SCENE)], prompt=BLUE, **wrong)
        except RuntimeError as error:
            expect(f"the status of {wrong}", error.args[0], 400)
            expect(f"whether it names {wrong}", next(iter(wrong)) in error.args[1], True)
        else:
            raise AssertionError(f"{wrong} was taken")
    yield from ()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    make(
        {
            "edit": edit,
            "several": several,
            "masked edit": masked,
            "another size": another_size,
            "generate": generate,
            "lists": lists,
            "progress, interrupt": interrupt,
            "errors": errors,
        }
    )
