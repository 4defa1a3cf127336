"""The openai SDK: edits, generation, streamed previews, errors, retries."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
from calls import BLUE, CAPTION, MASK, SCENE, STAR, Same, Server, expect, make

AT_ONCE = 16  # more than the server has seats


def client(server: Server, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=retries)


def edit(server: Server) -> Iterator[Same]:
    answer = client(server).images.edit(
        model=server.model, image=SCENE, prompt=BLUE, extra_body={"seed": 7, "num_inference_steps": 4}
    )
    expect("the seed", answer.model_extra["seed"], 7)
    yield Same(png(answer.data[0]), parameters={"seed": 7, "steps": 4})


def several(server: Server) -> Iterator[Same]:
    answer = client(server).images.edit(
        model=server.model, image=SCENE, prompt=BLUE, n=2, size="auto", extra_body={"seed": 7, "num_inference_steps": 3}
    )
    expect("the number of pictures", len(answer.data), 2)
    for number, each in enumerate(answer.data):
        yield Same(png(each), parameters={"seed": 7 + number, "steps": 3})


def masked(server: Server) -> Iterator[Same]:
    answer = client(server).images.edit(
        model=server.model, image=[SCENE], mask=MASK, prompt=STAR, extra_body={"seed": 4, "num_inference_steps": 4}
    )
    yield Same(png(answer.data[0]), text=STAR, mask=True, parameters={"seed": 4, "steps": 4})


def generate(server: Server) -> Iterator[Same]:
    answer = client(server).images.generate(
        model=server.model, prompt=CAPTION, size="64x64", extra_body={"seed": 3, "num_inference_steps": 4}
    )
    parameters = {"seed": 3, "steps": 4, "width": 64, "height": 64}
    yield Same(png(answer.data[0]), "generate", CAPTION, parameters=parameters)


def stream(server: Server) -> Iterator[Same]:
    events = list(
        client(server).images.edit(
            model=server.model,
            image=SCENE,
            prompt=BLUE,
            stream=True,
            partial_images=2,
            extra_body={"seed": 7, "num_inference_steps": 6},
        )
    )
    expect("the events", [event.type for event in events], ["image_edit.partial_image"] * 2 + ["image_edit.completed"])
    expect("the previews' places", [event.partial_image_index for event in events[:-1]], [0, 1])
    yield Same(png(events[-1]), parameters={"seed": 7, "steps": 6})


def stream_generation(server: Server) -> Iterator[Same]:
    *partial, last = client(server).images.generate(
        model=server.model,
        prompt=CAPTION,
        size="64x64",
        stream=True,
        partial_images=1,
        extra_body={"seed": 3, "num_inference_steps": 4},
    )
    expect("the previews", [event.type for event in partial], ["image_generation.partial_image"])
    expect("the last event", last.type, "image_generation.completed")
    parameters = {"seed": 3, "steps": 4, "width": 64, "height": 64}
    yield Same(png(last), "generate", CAPTION, parameters=parameters)


def models(server: Server) -> Iterator[Same]:
    expect("the models", [model.id for model in client(server).models.list()], [server.model])
    yield from ()


def errors(server: Server) -> Iterator[Same]:
    """Each error is the SDK's own class, and none is sent twice."""
    images = client(server, retries=2).images
    try:
        images.edit(model=server.model, image=SCENE, prompt=BLUE, extra_body={"num_inference_step": 4})
    except openai.BadRequestError as error:
        expect("the parameter", error.param, "num_inference_step")
        expect("whether to try again", error.response.headers["x-should-retry"], "false")
    else:
        raise AssertionError("a parameter that does not exist was taken")
    for wrong, kind in (
        ({"model": "another"}, openai.NotFoundError),
        ({"image": ("a.png", b"not a picture")}, openai.APIStatusError),
        ({"response_format": "url"}, openai.BadRequestError),
    ):
        try:
            images.edit(**{"model": server.model, "image": SCENE, "prompt": BLUE, **wrong})
        except kind as error:
            expect(f"{wrong}: a client's error", 400 <= error.status_code < 500, True)
        else:
            raise AssertionError(f"{wrong} was taken")
    try:
        client(Server(server.url, "sk-wrong", server.model)).images.edit(image=SCENE, prompt=BLUE)
    except openai.AuthenticationError:
        yield from ()
    else:
        raise AssertionError("a wrong key was taken")


def retries(server: Server) -> Iterator[Same]:
    """More at once than there are seats: those refused are sent again by the SDK after Retry-After, and all arrive."""
    images = client(server, retries=20).images.with_raw_response

    def one(seed: int) -> tuple[int, bytes]:
        extra = {"seed": seed, "num_inference_steps": 8}
        answer = images.edit(model=server.model, image=SCENE, prompt=BLUE, extra_body=extra)
        return answer.retries_taken, png(answer.parse().data[0])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(one, range(AT_ONCE)))
    expect("whether any was sent again", any(retries for retries, _ in answers), True)
    for seed, (_, picture) in enumerate(answers):
        yield Same(picture, parameters={"seed": seed, "steps": 8})


def png(answer: object) -> bytes:
    return base64.b64decode(answer.b64_json)  # type: ignore[attr-defined]  # an image, or a stream's last event


if __name__ == "__main__":
    make(
        {
            "edit": edit,
            "several": several,
            "masked edit": masked,
            "generate": generate,
            "stream": stream,
            "stream of a generation": stream_generation,
            "models": models,
            "errors": errors,
            "retries": retries,
        }
    )
