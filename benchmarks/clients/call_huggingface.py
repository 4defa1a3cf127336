"""huggingface_hub's InferenceClient: image-to-image, text-to-image, an error."""

import io
from collections.abc import Iterator

from calls import BLUE, CAPTION, SCENE, Same, Server, expect, make
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image


def edits(server: Server) -> InferenceClient:
    return InferenceClient(model=f"{server.url}/hf/image-to-image", token=server.key)


def edit(server: Server) -> Iterator[Same]:
    picture = edits(server).image_to_image(
        SCENE, prompt=BLUE, num_inference_steps=4, guidance_scale=2.5, image_guidance_scale=1.5, seed=7
    )
    yield Same(png(picture), parameters={"seed": 7, "steps": 4, "guidance_scale": 2.5, "image_guidance_scale": 1.5})


def edit_of_bytes(server: Server) -> Iterator[Same]:
    client = InferenceClient(base_url=f"{server.url}/hf/image-to-image", api_key=server.key)
    picture = client.image_to_image(
        SCENE.read_bytes(), prompt=BLUE, negative_prompt="red", num_inference_steps=3, seed=8
    )
    yield Same(png(picture), parameters={"seed": 8, "steps": 3, "negative_prompt": "red"})


def generate(server: Server) -> Iterator[Same]:
    picture = InferenceClient(f"{server.url}/hf/text-to-image", token=server.key).text_to_image(
        CAPTION, width=64, height=64, num_inference_steps=4, seed=3, scheduler="ddim", extra_body={"eta": 0.5}
    )
    parameters = {"seed": 3, "steps": 4, "width": 64, "height": 64, "scheduler": "ddim", "eta": 0.5}
    yield Same(png(picture), "generate", CAPTION, parameters=parameters)


def error(server: Server) -> Iterator[Same]:
    try:
        edits(server).image_to_image(SCENE, prompt=BLUE, num_inference_steps=0)
    except HfHubHTTPError as error:
        expect("the status", error.response.status_code, 400)
        expect("whether the server's words are in it", "steps" in str(error), True)
    else:
        raise AssertionError("0 steps were taken")
    yield from ()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    make({"edit": edit, "edit of bytes": edit_of_bytes, "generate": generate, "error": error})
