"""litellm, by its OpenAI-compatible `api_base`: edits, generation, an error."""

import base64
from collections.abc import Iterator
from typing import Any

import litellm
from calls import BLUE, CAPTION, MASK, SCENE, STAR, Same, Server, expect, make


def settings(server: Server) -> dict[str, Any]:
    return {"model": f"openai/{server.model}", "api_base": f"{server.url}/v1", "api_key": server.key}


def edit(server: Server) -> Iterator[Same]:
    with SCENE.open("rb") as scene:
        answer = litellm.image_edit(
            image=scene, prompt=BLUE, extra_body={"seed": 7, "num_inference_steps": 4}, **settings(server)
        )
    yield Same(base64.b64decode(answer.data[0].b64_json), parameters={"seed": 7, "steps": 4})


def masked(server: Server) -> Iterator[Same]:
    with SCENE.open("rb") as scene, MASK.open("rb") as mask:
        answer = litellm.image_edit(
            image=[scene], mask=mask, prompt=STAR, extra_body={"seed": 4, "num_inference_steps": 4}, **settings(server)
        )
    yield Same(base64.b64decode(answer.data[0].b64_json), text=STAR, mask=True, parameters={"seed": 4, "steps": 4})


def generate(server: Server) -> Iterator[Same]:
    answer = litellm.image_generation(
        prompt=CAPTION, size="64x64", extra_body={"seed": 3, "num_inference_steps": 4}, **settings(server)
    )
    parameters = {"seed": 3, "steps": 4, "width": 64, "height": 64}
    yield Same(base64.b64decode(answer.data[0].b64_json), "generate", CAPTION, parameters=parameters)


def error(server: Server) -> Iterator[Same]:
    try:
        with SCENE.open("rb") as scene:
            litellm.image_edit(image=scene, prompt=BLUE, extra_body={"steps": 0}, **settings(server))
    except litellm.BadRequestError as error:
        expect("whether the error names the parameter", "steps" in str(error), True)
    else:
        raise AssertionError("0 steps were taken")
    yield from ()


if __name__ == "__main__":
    make({"edit": edit, "masked edit": masked, "generate": generate, "error": error})
