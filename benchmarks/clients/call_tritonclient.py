"""tritonclient over HTTP: metadata, files and arrays in and out, as binary data and as JSON, batches, errors."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from calls import BLUE, CAPTION, MASK, SCENE, STAR, Same, Server, expect, make
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException


def infer(server: Server, inputs: list[InferInput], **more: Any) -> InferResult:
    client = InferenceServerClient(server.url.removeprefix("http://"), network_timeout=300, connection_timeout=300)
    return client.infer(server.model, inputs, headers={"Authorization": f"Bearer {server.key}"}, **more)


def tensor(name: str, values: list[Any], *, binary: bool = True) -> InferInput:
    array = np.array(values, object)
    made = InferInput(name, list(array.shape), "BYTES")
    return made.set_data_from_numpy(array, binary_data=binary)


def metadata(server: Server) -> Iterator[Same]:
    client = InferenceServerClient(server.url.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {server.key}"}
    expect("live", client.is_server_live(headers), True)
    expect("ready", client.is_server_ready(headers), True)
    expect("the model is ready", client.is_model_ready(server.model, "1", headers), True)
    expect("another is ready", client.is_model_ready("another", headers=headers), False)
    expect("binary tensors", "binary_tensor_data" in client.get_server_metadata(headers)["extensions"], True)
    described = client.get_model_metadata(server.model, headers=headers)
    expect("the inputs", {"IMAGE", "INSTRUCTION"} <= {each["name"] for each in described["inputs"]}, True)
    yield from ()


def files(server: Server) -> Iterator[Same]:
    inputs = [tensor("IMAGE", [SCENE.read_bytes()]), tensor("INSTRUCTION", [BLUE])]
    answer = infer(server, inputs, parameters={"seed": 7, "steps": 4}, request_id="mine")
    expect("the id", answer.get_response()["id"], "mine")
    expect("the seed", answer.as_numpy("SEED").tolist(), [7])
    yield Same(answer.as_numpy("IMAGE")[0], parameters={"seed": 7, "steps": 4})


def arrays(server: Server) -> Iterator[Same]:
    """Two pictures of one batch, each with its own instruction, as pixels in and out."""
    scene = np.asarray(Image.open(SCENE).convert("RGB"))
    batch = np.stack([scene, scene])
    image = InferInput("IMAGE", list(batch.shape), "UINT8").set_data_from_numpy(batch)
    wanted = [InferRequestedOutput("IMAGE"), InferRequestedOutput("INFO", binary_data=False)]
    answer = infer(
        server, [image, tensor("INSTRUCTION", [BLUE, STAR])], outputs=wanted, parameters={"seed": 7, "steps": 3}
    )
    made = answer.as_numpy("IMAGE")
    expect("the shape", made.shape, batch.shape)
    expect("the outputs", answer.as_numpy("SEED"), None)
    expect("the seeds", [json.loads(info)["seed"] for info in answer.as_numpy("INFO")], [7, 8])
    for number, text in enumerate((BLUE, STAR)):
        yield Same(png(made[number]), text=text, parameters={"seed": 7 + number, "steps": 3})


def as_json(server: Server) -> Iterator[Same]:
    """Pixels as numbers, and a file as base64."""
    scene = np.asarray(Image.open(SCENE).convert("RGB"))[None]
    image = InferInput("IMAGE", list(scene.shape), "UINT8").set_data_from_numpy(scene, binary_data=False)
    wanted = [InferRequestedOutput("IMAGE", binary_data=False)]
    text = tensor("INSTRUCTION", [BLUE], binary=False)
    answer = infer(server, [image, text], outputs=wanted, parameters={"seed": 7, "steps": 3})
    yield Same(png(answer.as_numpy("IMAGE")[0]), parameters={"seed": 7, "steps": 3})
    image = tensor("IMAGE", [base64.b64encode(SCENE.read_bytes()).decode()], binary=False)
    answer = infer(server, [image, text], outputs=wanted, parameters={"seed": 7, "steps": 3})
    yield Same(base64.b64decode(answer.as_numpy("IMAGE")[0]), parameters={"seed": 7, "steps": 3})


def masked(server: Server) -> Iterator[Same]:
    inputs = [tensor("IMAGE", [SCENE.read_bytes()]), tensor("INSTRUCTION", [STAR]), tensor("MASK", [MASK.read_bytes()])]
    answer = infer(server, inputs, parameters={"seed": 4, "steps": 4, "output_format": "raw"})
    yield Same(png(answer.as_numpy("IMAGE")[0]), text=STAR, mask=True, parameters={"seed": 4, "steps": 4})
    pixels = np.asarray(Image.open(MASK).convert("L"))[None]
    inputs[2] = InferInput("MASK", list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
    answer = infer(server, inputs, parameters={"seed": 4, "steps": 4})
    yield Same(answer.as_numpy("IMAGE")[0], text=STAR, mask=True, parameters={"seed": 4, "steps": 4})


def generate(server: Server) -> Iterator[Same]:
    given = {"seed": 3, "steps": 4, "width": 64, "height": 64}
    answer = infer(server, [tensor("INSTRUCTION", [CAPTION])], parameters=given)
    yield Same(answer.as_numpy("IMAGE")[0], "generate", CAPTION, parameters=given)


def errors(server: Server) -> Iterator[Same]:
    inputs = [tensor("IMAGE", [SCENE.read_bytes()]), tensor("INSTRUCTION", [BLUE])]
    for wrong, given in (("steps", {"steps": 0}), ("stepz", {"stepz": 3}), ("priority", None)):
        try:
            infer(server, inputs, **({"parameters": given} if given else {"priority": 3}))
        except InferenceServerException as error:
            expect(f"the status of {wrong}", error.status(), "400")
            expect(f"whether it names {wrong}", wrong in error.message(), True)
        else:
            raise AssertionError(f"{wrong} was taken")
    yield from ()


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    make(
        {
            "metadata": metadata,
            "files": files,
            "arrays": arrays,
            "JSON": as_json,
            "masked edit": masked,
            "generate": generate,
            "errors": errors,
        }
    )
