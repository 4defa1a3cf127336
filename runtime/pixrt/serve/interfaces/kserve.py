"""The KServe v2 protocol (Triton's) over HTTP: what the server and the model are, and inference with tensors.

Must not import numpy or Pillow.
"""

import dataclasses
import json
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pixrt._version import __version__
from pixrt.serve.interfaces import answers
from pixrt.serve.interfaces.dialects import SENTENCES_MAKING, SENTENCES_READING, json_body
from pixrt.serve.interfaces.fields import Fields, Upload
from pixrt.serve.interfaces.orders import Order, Shop, order_job
from pixrt.serve.interfaces.tensors import InferRequest, Tensor, bad, read_request, write_answer
from pixrt.serve.interfaces.wanted import MOST_PICTURES
from pixrt.serve.messages import Model
from pixrt.serve.problems import Problem
from pixrt.serve.tickets import Output, RawPicture, Result, Ticket

if TYPE_CHECKING:
    from pixrt.serve.service import Service

VERSION = "1"  # of the model: there is one
EXTENSIONS = ("binary_tensor_data", "parameters")
INPUTS = {"IMAGE": "image", "INSTRUCTION": "prompt", "MASK": "mask", "STYLE": "style"}  # what each is in an order
OUTPUTS = ("IMAGE", "SEED", "INFO")
_NOT_HERE = ("n", "partial_images", "image", "mask", "style", "prompt")  # of a job, said by tensors or not at all
_RGB = 3
_MICROSECONDS = 1000  # in a millisecond; Triton's `timeout` is in them
_HEADER = "Inference-Header-Content-Length"
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BODY = {"requestBody": json_body("inputs", inputs={"type": "array"}, parameters={"type": "object"})}
_BODY["requestBody"]["content"] |= _BINARY
_READY = {**SENTENCES_READING, 503: {"description": "Not now."}}
_INFERRED = {**SENTENCES_MAKING, 200: {"content": _BINARY, "description": "The pictures."}}


def router(service: "Service") -> APIRouter:
    """The routes under `/v2`."""
    routes = APIRouter(tags=["KServe v2"])

    @routes.get("/v2", responses=SENTENCES_READING)
    async def server() -> dict[str, Any]:
        """What the server is."""
        return {"name": "pixrt", "version": __version__, "extensions": list(EXTENSIONS)}

    @routes.get("/v2/health/live", responses=SENTENCES_READING)
    async def live() -> dict[str, bool]:
        """Whether the server answers."""
        return {"live": True}

    @routes.get("/v2/health/ready", responses=_READY)
    async def ready() -> Response:
        """Whether pictures can be made now: 503 if not."""
        return JSONResponse({"ready": service.is_ready}, 200 if service.is_ready else 503)

    @routes.get("/v2/models/{model}", responses=SENTENCES_READING)
    @routes.get("/v2/models/{model}/versions/{version}", responses=SENTENCES_READING)
    async def metadata(model: str, version: str = VERSION) -> dict[str, Any]:
        """The model's tensors."""
        return _metadata(_find(service, model, version))

    @routes.get("/v2/models/{model}/ready", responses=_READY)
    @routes.get("/v2/models/{model}/versions/{version}/ready", responses=_READY)
    async def model_ready(model: str, version: str = VERSION) -> Response:
        """Whether the model can be asked now: 503 if not."""
        _find(service, model, version)
        return JSONResponse({"name": model, "ready": service.is_ready}, 200 if service.is_ready else 503)

    @routes.post("/v2/models/{model}/infer", responses=_INFERRED, openapi_extra=_BODY)
    @routes.post("/v2/models/{model}/versions/{version}/infer", responses=_INFERRED, openapi_extra=_BODY)
    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        """Make pictures. Tensors are JSON, or bytes behind it (`Inference-Header-Content-Length`)."""
        found = _find(service, model, version)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "unsupported_encoding", "The body is compressed. Send it as it is.")
        wanted = read_request(await request.body(), request.headers.get(_HEADER))
        tickets = await answers.submit(service, _order(wanted, answers.shop_of(service)), request)
        return _answer(wanted, found, tickets, await answers.results_of(request, tickets))

    return routes


def _find(service: "Service", name: str, version: str) -> Model:
    model = answers.model_of(service)
    if name != model.name:
        raise Problem(404, "model_not_found", f"There is no model {name!r:.60} here. Use {model.name}.", "model")
    if version != VERSION:
        raise Problem(404, "model_not_found", f"{name} has no version {version!r:.60}. Use {VERSION}.", "version")
    return model


def _metadata(model: Model) -> dict[str, Any]:
    """As far as the protocol can say it: IMAGE and MASK may also be UINT8, by rules that it has no words for."""
    inputs = [name for name in INPUTS if name != "STYLE" or "style" in model.tasks]
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": f"pixrt_{model.backend}",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in inputs],
        "outputs": [
            {"name": "IMAGE", "datatype": "BYTES", "shape": [-1]},
            {"name": "SEED", "datatype": "INT64", "shape": [-1]},
            {"name": "INFO", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def _order(wanted: InferRequest, shop: Shop) -> Order:
    """A picture for each element of the batch, seeds counted up. Raises Problem."""
    for kind, given, known in (("input", wanted.inputs, INPUTS), ("output", wanted.outputs or (), OUTPUTS)):
        for name in given:
            if name not in known:
                message = f"There is no {kind} {name!r:.60}. Known are {', '.join(known)}."
                raise bad(message, name, "unknown_parameter")
    columns = {name: _elements(tensor) for name, tensor in wanted.inputs.items()}
    if "INSTRUCTION" not in columns:
        raise bad("There is no INSTRUCTION. Give it, BYTES [N].", "INSTRUCTION", "missing_required_parameter")
    parameters = dict(wanted.parameters)
    for name in _NOT_HERE:
        if name in parameters:
            raise bad(f"There is no parameter {name}. The tensors say it.", name, "unknown_parameter")
    is_raw = _pop_raw(parameters, wanted.inputs.get("IMAGE"))
    timeout = _milliseconds(parameters.pop("timeout", 0))
    if timeout:
        parameters["deadline_ms"] = timeout
    parameters.setdefault("task", _task(shop.model, columns.keys()))
    orders: list[Order] = []
    for row in _rows(columns):
        if orders:  # the first one's seed may have been drawn
            parameters["seed"] = (orders[0].asked[0].options.seed or 0) + len(orders)
        orders.append(_one(parameters, row, shop))
    asked = [order.asked[0] for order in orders]
    if is_raw:
        asked = [dataclasses.replace(each, output=Output("raw")) for each in asked]
    return dataclasses.replace(orders[0], asked=tuple(asked))


def _one(parameters: dict[str, Any], row: dict[str, Any], shop: Shop) -> Order:
    """A picture's order. An empty file takes the place of pixels while the fields are read."""
    sent = {INPUTS[name]: value for name, value in row.items()}
    pixels: dict[str, Any] = {name: value for name, value in sent.items() if isinstance(value, RawPicture)}
    files = dict.fromkeys(pixels, Upload(b""))
    order = order_job(Fields([*parameters.items(), *(sent | files).items()], is_json=True), shop)
    return dataclasses.replace(order, asked=(dataclasses.replace(order.asked[0], **pixels),))


def _elements(tensor: Tensor) -> list[Any]:
    """What each picture of the batch has of an input: a text, a file, or pixels. Raises Problem."""
    name, shape = tensor.name, tensor.shape
    if tensor.datatype == "UINT8":
        if name == "INSTRUCTION":
            raise bad("INSTRUCTION is UINT8. Send BYTES.", name)
        return list(_pixels(tensor))
    if len(shape) > 2 or shape[1:] not in ((), (1,)):
        raise bad(f"The shape of {name} is {list(shape)}. BYTES have [N] or [N, 1].", name)
    if name != "INSTRUCTION":
        # In JSON a file is base64.
        return [value if isinstance(value, str) else Upload(value) for value in tensor.data]
    try:
        return [value if isinstance(value, str) else str(value, "utf-8") for value in tensor.data]
    except UnicodeDecodeError:
        raise bad("An element of INSTRUCTION is not UTF-8. Send text.", name) from None


def _pixels(tensor: Tensor) -> Iterator[RawPicture]:
    """The pictures of a UINT8 tensor: [N, H, W, 3]; a mask may have one channel, or none named."""
    shape, data = tensor.shape, tensor.data
    assert isinstance(data, bytes)
    is_grey = tensor.name == "MASK" and (len(shape) == 3 or shape[3:] == (1,))
    if not is_grey and shape[3:] != (_RGB,):
        raise bad(f"The shape of {tensor.name} is {list(shape)}. Send UINT8 pixels as [N, H, W, 3].", tensor.name)
    if is_grey:
        spread = bytearray(_RGB * len(data))
        for channel in range(_RGB):
            spread[channel::_RGB] = data
        data = bytes(spread)
    count, height, width = shape[:3]
    length = _RGB * height * width
    for number in range(count):
        yield RawPicture(data[number * length : (number + 1) * length], width, height)


def _rows(columns: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The batch, picture by picture: an input with one element goes to all. Raises Problem."""
    count = max(map(len, columns.values()))
    for name, values in columns.items():
        if len(values) not in (1, count):
            raise bad(f"{name} has {len(values)} elements, and the batch has {count}. Give 1 or {count}.", name)
    if count > MOST_PICTURES:
        raise bad(f"The batch has {count} pictures. Send at most {MOST_PICTURES} at once.", "inputs")
    for number in range(count):
        yield {name: values[number if len(values) > 1 else 0] for name, values in columns.items()}


def _pop_raw(parameters: dict[str, Any], image: Tensor | None) -> bool:
    """Whether pixels are wanted, not files: as it is said, or as the picture came."""
    if "output_format" not in parameters:
        return image is not None and image.datatype == "UINT8"
    if parameters["output_format"] != "raw":
        return False
    del parameters["output_format"]
    return True


def _milliseconds(timeout: Any) -> int:
    if type(timeout) is not int or timeout < 0:
        raise bad(f"timeout is {timeout!r:.40}. Give microseconds, a whole number.", "timeout", "invalid_value")
    return -(-timeout // _MICROSECONDS)


def _task(model: Model, given: Collection[str]) -> str:
    """What is to be done where no parameter says so."""
    if "IMAGE" not in given:
        return "generate"
    if "STYLE" in given:
        return "style"
    return "edit" if "edit" in model.tasks else "inpaint" if "MASK" in given else "img2img"


def _answer(wanted: InferRequest, model: Model, tickets: Sequence[Ticket], results: Sequence[Result]) -> Response:
    made = {
        "IMAGE": _image(results),
        "SEED": Tensor("SEED", "INT64", (len(results),), tuple(map(answers.seed_of, tickets))),
        "INFO": Tensor("INFO", "BYTES", (len(results),), tuple(map(_info, results)), is_text=True),
    }
    binary = wanted.outputs or dict.fromkeys(OUTPUTS, wanted.binary_output)
    head = {"model_name": model.name, "model_version": VERSION}
    if wanted.id is not None:
        head["id"] = wanted.id
    content, length = write_answer(head, [made[name] for name in binary], binary)
    if not any(binary.values()):
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={_HEADER: str(length)})


def _image(results: Sequence[Result]) -> Tensor:
    if results[0].output.format != "raw":
        return Tensor("IMAGE", "BYTES", (len(results),), tuple(result.data for result in results))
    sizes = {result.size for result in results}
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise bad(f"The pictures are {listed}, which is no one tensor. Ask for output_format png.", "output_format")
    ((width, height),) = sizes
    return Tensor("IMAGE", "UINT8", (len(results), height, width, _RGB), b"".join(result.data for result in results))


def _info(result: Result) -> bytes:
    info = {**result.parameters, "size": list(result.size), "backend": result.backend, "times_ms": dict(result.times)}
    return json.dumps(info).encode()
