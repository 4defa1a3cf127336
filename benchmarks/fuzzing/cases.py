"""Requests that nobody means well with, as they go over the wire. Everything follows from a seed."""

import base64
import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from figures.pictures import small_png
from fuzzing.pictures import bombs, spoiled
from fuzzing.values import PATHS, body, form_value, raw_value
from pixrt.options.fields import option_fields
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.serve.interfaces import a1111_fields
from pixrt.serve.interfaces.fields import ALIASES, UNSUPPORTED
from pixrt.serve.interfaces.wanted import ImageFields, JobFields

FORM, JSON = "multipart/form-data; boundary=b", "application/json"
EDITS, GENERATIONS, JOBS = "/v1/images/edits", "/v1/images/generations", "/v1/jobs"
PARAMETERS = "/v1/parameters"
IMG2IMG, TXT2IMG, OPTIONS = "/sdapi/v1/img2img", "/sdapi/v1/txt2img", "/sdapi/v1/options"
TO_IMAGE, FROM_TEXT, INFER = "/hf/image-to-image", "/hf/text-to-image", "/v2/models/pixrt-shapes/infer"
PICTURES = ("image", "mask", "style")
_LENGTH = "Inference-Header-Content-Length"
_SIDE = 64
FEW = {"steps": 1, "seed": 1}


@dataclass(frozen=True)
class Case:
    """A request.

    Attributes:
        name: what it tries.
        method, path: as the server should understand it; empty for what is no HTTP.
        wire: its bytes.
        may_close: the server may end the connection without an answer.
    """

    name: str
    method: str
    path: str
    wire: bytes
    may_close: bool = False


Making = Callable[[random.Random], Iterator[Case]]


def cases(seed: int, kinds: Sequence[str] = ()) -> Iterator[Case]:
    """Any number of them, of all kinds or of these, mixed."""
    if not kinds or "bombs" in kinds:
        bombs()  # they take some seconds, in which no answer should be waited for
    source = random.Random(seed)
    made = [KINDS[name](random.Random(f"{seed} {name}")) for name in kinds or KINDS]
    while True:
        yield next(source.choice(made))


def wire(method: str, path: str, content: bytes, kind: str, headers: Mapping[str, str] = {}) -> bytes:
    """A request with a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def form(parts: Sequence[tuple[str, bytes, str | None]]) -> bytes:
    """A form's body: name, content, and the file's name if it is a file."""
    made = []
    for name, content, file in parts:
        said = f'form-data; name="{name}"' + ("" if file is None else f'; filename="{file}"')
        made.append(f"--b\r\nContent-Disposition: {said}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(made) + b"--b--\r\n"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _post(name: str, path: str, said: Any, **headers: str) -> Case:
    return Case(name, "POST", path, wire("POST", path, json.dumps(said).encode(), JSON, headers))


def _posted(name: str, path: str, parts: Sequence[tuple[str, bytes, str | None]]) -> Case:
    return Case(name, "POST", path, wire("POST", path, form(parts), FORM))


def binary(
    inputs: Sequence[tuple[dict[str, Any], bytes]], *, length: str | None = None, cut: int = 0, **said: Any
) -> bytes:
    """A request of KServe's with tensors behind the JSON, of which the last bytes may be missing."""
    described = [{**each, "parameters": {"binary_data_size": len(data)}} for each, data in inputs]
    head = json.dumps({"inputs": described, **said}).encode()
    content = head + b"".join(data for _, data in inputs)
    content = content[: len(content) - cut]
    return wire("POST", INFER, content, "application/octet-stream", {_LENGTH: length or str(len(head))})


def with_picture(data: bytes, random: random.Random) -> Case:
    """A picture in the place where one of the interfaces takes one."""
    good, prompt, steps = small_png(_SIDE), b"x", b"1"
    text, base = _text(data), [("prompt", prompt, None), ("steps", steps, None)]
    element = struct.pack("<I", len(data)) + data
    instruction = {"name": "INSTRUCTION", "datatype": "BYTES", "shape": [1], "data": ["x"]}
    few = {"parameters": {"steps": 1}}
    ways: Sequence[Callable[[], Case]] = (
        lambda: _posted("image", EDITS, [*base, ("image", data, "a.png")]),
        lambda: _posted("image", EDITS, [*base, ("image", data, "a.png"), ("output_format", b"jpeg", None)]),
        lambda: _posted("size", EDITS, [*base, ("size", b"32x32", None), ("image", data, "a.png")]),
        lambda: _posted("mask", EDITS, [*base, ("image", good, "a.png"), ("mask", data, "m.png")]),
        lambda: _posted("both", EDITS, [*base, ("image", data, "a.png"), ("mask", data, "m.png")]),
        lambda: _posted(
            "style", JOBS, [("task", b"style", None), *base[1:], ("image", good, "a.png"), ("style", data, "s.png")]
        ),
        lambda: _post("base64", EDITS, {"prompt": "x", "image": text, "n": random.choice((1, 2, 5)), **FEW}),
        lambda: _posted("parameters", PARAMETERS, [("image", data, "a.png")]),
        lambda: _post("a job", JOBS, {"task": "edit", "prompt": "x", "image": text, **FEW}),
        lambda: _post("hf", TO_IMAGE, {"inputs": text, "parameters": {"prompt": "x", **FEW}}),
        lambda: _post(
            "hf size",
            TO_IMAGE,
            {"inputs": text, "parameters": {"prompt": "x", "target_size": {"width": 32, "height": 32}, **FEW}},
        ),
        lambda: _post("a1111", IMG2IMG, {"prompt": "x", "init_images": [text], "steps": 1}),
        lambda: _post(
            "a1111 mask",
            IMG2IMG,
            {"prompt": "x", "init_images": [_text(good)], "mask": text, "steps": 1, "inpainting_mask_invert": 1},
        ),
        lambda: _post(
            "kserve", INFER, {"inputs": [{**instruction, "name": "IMAGE", "data": [text]}, instruction], **few}
        ),
        lambda: Case(
            "kserve bytes",
            "POST",
            INFER,
            binary(
                [
                    ({"name": "IMAGE", "datatype": "BYTES", "shape": [1]}, element),
                    ({"name": "INSTRUCTION", "datatype": "BYTES", "shape": [1]}, b"\1\0\0\0x"),
                ],
                **few,
            ),
        ),
    )
    return random.choice(ways)()


def _pictures(random: random.Random) -> Iterator[Case]:
    for name, data in spoiled(random):
        case = with_picture(data, random)
        yield Case(f"picture {name}: {case.name}", case.method, case.path, case.wire)


def _bombs(random: random.Random) -> Iterator[Case]:
    known = bombs()
    while True:
        name = random.choice(list(known))
        case = with_picture(known[name], random)
        yield Case(f"bomb {name}: {case.name}", case.method, case.path, case.wire)


def _json(random: random.Random) -> Iterator[Case]:
    """A good request with values that no field expects."""
    picture = _text(small_png(_SIDE))
    own = sorted({*_named(*TASK_OPTIONS.values(), JobFields), *ALIASES, *PICTURES, "lora"})
    theirs = sorted({*_named(ImageFields), *UNSUPPORTED, "image[]"})
    both = (*a1111_fields._READ, *a1111_fields._NEUTRAL)
    web = (*both, *a1111_fields._READ_IMG2IMG, *a1111_fields._NEUTRAL_IMG2IMG, *a1111_fields._NEUTRAL_TXT2IMG)
    tensor = ("name", "datatype", "shape", "data", "parameters")
    targets: Sequence[tuple[str, dict[str, Any], Sequence[str]]] = (
        (EDITS, {"prompt": "x", "image": picture, **FEW}, (*own, *theirs)),
        (GENERATIONS, {"prompt": "x", **FEW}, (*own, *theirs)),
        (JOBS, {"task": "edit", "prompt": "x", "image": picture, **FEW}, (*own, "task")),
        (JOBS, {"task": "style", "image": picture, "style": picture, **FEW}, (*own, "task")),
        (TO_IMAGE, {"inputs": picture, "parameters": {"prompt": "x", **FEW}}, ("inputs", "parameters", "x")),
        (FROM_TEXT, {"inputs": "x", "parameters": FEW}, ("inputs", "parameters")),
        (IMG2IMG, {"prompt": "x", "init_images": [picture], "steps": 1}, web),
        (TXT2IMG, {"prompt": "x", "steps": 1, "width": 64, "height": 64}, web),
        (OPTIONS, {}, ("sd_model_checkpoint", "x")),
    )
    while True:
        if random.random() < 0.25:
            path, content = INFER, _tensors(random, picture, tensor, own)
        elif random.random() < 0.1:
            inside = body({"prompt": "x", **FEW}, (*own, "target_size"), random)
            path, content = TO_IMAGE, b'{"inputs":"' + picture.encode() + b'","parameters":' + inside + b"}"
        else:
            path, good, names = random.choice(targets)
            content = body(good, names, random)
        yield Case(f"json {content[:60]!r}", "POST", path, wire("POST", path, content, JSON))


def _named(*classes: type[Any]) -> Iterator[str]:
    """The options of these classes."""
    return (name for kind in classes for name in option_fields(kind))


def _tensors(random: random.Random, picture: str, tensor: Sequence[str], own: Sequence[str]) -> bytes:
    """A request of KServe's whose tensors, or parameters, are not as they should be."""
    image = {"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [picture]}
    text = {"name": "INSTRUCTION", "datatype": "BYTES", "shape": [1], "data": ["x"]}
    parts = [json.dumps(image).encode(), json.dumps(text).encode(), b'{"steps":1}', b'[{"name":"IMAGE"}]', b'"a"']
    which = random.randrange(5)
    if which < 2:
        parts[which] = body((image, text)[which], (*tensor, "binary_data_size"), random)
    elif which == 2:
        parts[2] = body({"steps": 1}, (*own, "timeout", "binary_data_output", "task"), random)
    elif which == 3:
        parts[3] = b"[" + body({"name": "IMAGE"}, ("name", "parameters"), random) + b"]"
    else:
        parts[random.randrange(len(parts))] = raw_value(random)
    return b'{"inputs":[%b,%b],"parameters":%b,"outputs":%b,"id":%b}' % tuple(parts)


def _raw_tensors(random: random.Random) -> Iterator[Case]:
    """Pixels whose number, shape or lengths do not fit."""
    while True:
        shape = random.choice(
            ([1, 8, 8, 3], [1, 8, 8], [8, 8, 3], [2, 8, 8, 3], [1, 4096, 4096, 3], [1, 1, 65536, 3], [1, 8, 8, 4], [0,
            8, 8, 3],
             [1, 8, -8, 3], [1, 2**31, 2**31, 3], [], [1] * 9, [1, 16, 16, 3], [10, 8, 8, 3], [11, 8, 8, 3])
        )  # fmt: skip
        count = 1
        for side in shape:
            count *= max(0, side)
        length = max(0, random.choice((count, count, count - 1, count + 1, 0, 192)))
        pixels = bytes(length if length < 1 << 20 else 100)
        words = random.choice(
            (b"\1\0\0\0x", b"\xff\xff\xff\xffx", b"\0\0\0\0", b"\1\0", b"", b"\1\0\0\0\xff", b"\1\0\0\0x" * 2)
        )
        inputs = [
            ({"name": "IMAGE", "datatype": "UINT8", "shape": shape}, pixels),
            ({"name": "INSTRUCTION", "datatype": "BYTES", "shape": [random.choice((1, 1, 2, 0))]}, words),
        ]
        if random.random() < 0.3:
            inputs.append(({"name": "MASK", "datatype": "UINT8", "shape": shape[:3]}, pixels[: len(pixels) // 3]))
        header = random.choice((None, None, None, "0", "-1", "1", "9" * 30, "１", "0x10", " 5", "", "1e3"))
        cut = random.choice((0, 0, 0, 0, 1, 50))
        content = binary(inputs, length=header, cut=cut, parameters={"steps": 1})
        yield Case(f"tensor {shape}", "POST", INFER, content)


def _forms(random: random.Random) -> Iterator[Case]:
    """Forms whose fields, names, numbers or borders are not as they should be."""
    names = ("prompt", "n", "size", "seed", "steps", "stream", "quality", "output_format", "output_compression",
             "user", "lora",
             "lora[]", "image[]", "guidance_interval", "guidance_interval[]", "deadline_ms", "model", "mask", "style",
             "[]", "",
             "a" * 300, "x[]", "image[0]", "steps[]", "num_inference_steps", "partial_images")  # fmt: skip
    good: list[tuple[str, bytes, str | None]] = [("prompt", b"x", None), ("steps", b"1", None)]
    picture: tuple[str, bytes, str | None] = ("image", small_png(_SIDE), "a.png")
    kinds = (
        "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 300,
        'multipart/form-data; boundary="b', "multipart/form-data; boundary=\xff", "multipart/mixed; boundary=b",
        "multipart/form-data; charset=undefined; boundary=b", "multipart/form-data; charset=idna; boundary=b",
        "multipart/form-data; charset=punycode; boundary=b", "multipart/form-data; charset=utf-16; boundary=b",
        "multipart/form-data; charset=hex; boundary=b", "multipart/form-data; charset=\0; boundary=b",
        "multipart/form-data; charset=unicode_escape; boundary=b", "application/x-www-form-urlencoded", "",
        "text/plain",
        "multipart/form-data; boundary=b; boundary=c", "application/json", "MULTIPART/FORM-DATA; BOUNDARY=b",
    )  # fmt: skip
    while True:
        path = random.choice((EDITS, EDITS, JOBS, GENERATIONS))
        base = [*good, ("task", b"edit", None)] if path == JOBS else list(good)
        parts, kind = [*base, picture] if path != GENERATIONS else base, FORM
        way = random.randrange(9)
        if way == 0:
            parts = [
                *parts,
                *((random.choice(names), form_value(random), None) for _ in range(random.choice((1, 2, 5)))),
            ]
        elif way == 1:
            parts = [
                *parts,
                *((random.choice(names), form_value(random), "f") for _ in range(random.choice((1, 2, 20)))),
            ]
        elif way == 2:
            parts = [(f"x{number}", b"", None) for number in range(random.choice((63, 64, 65, 2000)))] + parts
        elif way == 3:
            parts = [*parts, *parts]
        elif way == 4:
            kind = random.choice(kinds)
        elif way == 5:
            parts = [("image", random.choice(PATHS).encode(), random.choice((None, "a.png"))), *base]
        content = form(parts)
        if way == 6:
            content = content[: random.randrange(len(content))]
        elif way == 7:
            at = random.randrange(len(content))
            content = content[:at] + random.randbytes(random.choice((1, 50))) + content[at:]
        elif way == 8:
            content = _odd_part(random) + content
        try:
            yield Case(f"form {way} {kind[:70]}", "POST", path, wire("POST", path, content, kind))
        except UnicodeEncodeError:
            continue


def _odd_part(random: random.Random) -> bytes:
    """A part of a form with a head that is unusual or wrong."""
    heads = (
        b"", b"Content-Disposition: form-data", b'Content-Disposition: form-data; name="a\xff"',
        b"Content-Disposition: x; name=prompt",
        b'Content-Disposition: form-data; name="a"; filename*=UTF-8\'\'%ff%00',
        b'Content-Disposition: form-data; name="prompt"; name="n"',
        b'Content-Disposition: form-data; name="image"; filename="../../etc/passwd"', b"X: " + b"y" * 20_000,
        b"\r\n".join(b"X%d: y" % number for number in range(500)), b'Content-Disposition: form-data; name="prompt\r\n"',
        b'Content-Disposition: form-data; name="a\0b"', b'Content-Disposition: form-data; name=""; filename=""',
        b'Content-Disposition: form-data; name="seed"\r\nContent-Transfer-Encoding: base64',
        b'Content-Disposition: form-data; name="seed"\r\nContent-Type: text/plain; charset=utf-7',
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: multipart/mixed; boundary=c',
        b": x", b"\x00: x", b"Content-Disposition", b" folded: x\r\n y",
    )  # fmt: skip
    return b"--b\r\n" + random.choice(heads) + b"\r\n\r\n" + random.choice((b"1", b"", b"x")) + b"\r\n"


def _targets(random: random.Random) -> Iterator[Case]:
    """Paths, queries, methods and headers."""
    known = (EDITS, JOBS, "/v1/models", "/v1/models/x", "/v1/jobs/x", "/v1/jobs/x/events", "/v1/jobs/x/result",
             "/v1/schema", PARAMETERS, "/page/app.js", "/page/x", "/v2",
             "/v2/models/pixrt-shapes", "/v2/models/pixrt-shapes/versions/1/ready", INFER, "/sdapi/v1/progress",
             "/sdapi/v1/interrupt",
             "/sdapi/v1/sd-models", IMG2IMG, TO_IMAGE, "/health/ready", "/metrics", "/openapi.json", "/", "/docs",
             "/static/x")  # fmt: skip
    ends = ("", "/", "?", "?x=%ff", "?skip_current_image=%00", "?skip_current_image=maybe", "/..",
            "/%2e%2e/%2e%2e/etc/passwd", "/%00",
            "%ff", "//", "/" + "a" * 3000, "?" + "a=b&" * 500, ";x", "/\x7f", "#x", "%", "%zz", "?%zz")  # fmt: skip
    headers = (
        {"Last-Event-ID": "x"}, {"Last-Event-ID": "-1"}, {"Last-Event-ID": "9" * 400}, {"Last-Event-ID": "1.5"},
        {"Accept": "a" * 5000},
        {"X-Request-Id": "../" * 20}, {"X-Request-Id": "a" * 4000}, {"Authorization": "Bearer \xff"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + _text(b"\xff\xff")}, {"Origin": "null"}, {"Origin": "http://evil.example"},
        {"Range": "bytes=0-,9-"},
        {"Host": "evil.example"}, {"Connection": "close, upgrade", "Upgrade": "websocket"}, {"Upgrade": "h2c",
        "HTTP2-Settings": "x"},
        {"Cookie": "a=" + "b" * 8000}, {"Content-Encoding": "gzip"}, {"X-Forwarded-For": "1.2.3.4"},
        {"Traceparent": "00-x"},
        {"Accept": "application/openmetrics-text; version=9"}, {"Content-Type": "a/b"}, {"Expect": "nonsense"},
        {"TE": "trailers"},
    )  # fmt: skip
    methods = ("GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
    while True:
        method, path, extra = random.choice(methods), random.choice(known) + random.choice(ends), random.choice(headers)
        lines = [f"{method} {path} HTTP/1.1", *([] if "Host" in extra else ["Host: 127.0.0.1"])]
        lines += [f"{name}: {value}" for name, value in extra.items()]
        content = random.choice((b"", b"", b"{}", b"x" * 100))
        lines += [f"Content-Length: {len(content)}"] if content else []
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        yield Case(f"target {method} {path[:40]} {list(extra)}", "", "", head + content, may_close=True)


def _wires(random: random.Random) -> Iterator[Case]:
    """What is no HTTP, or could be read in two ways."""
    good = wire("POST", EDITS, form([("prompt", b"x", None), ("image", small_png(_SIDE), "a.png")]), FORM)
    head, _, content = good.partition(b"\r\n\r\n")
    start = b"POST " + EDITS.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    chunked = start + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    hidden = b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    known = (
        start + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        start + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + hidden,
        start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        start + b"Content-Length: 5, 5\r\n\r\nabcde",
        start + b"Content-Length: -1\r\n\r\n",
        start + b"Content-Length: +5\r\n\r\nabcde",
        start + b"Content-Length: 0x5\r\n\r\nabcde",
        start + b"Content-Length: 99999999999999999999999\r\n\r\n",
        start + b"Content-Length: 9999999999\r\n\r\n",
        start + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        start + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        start + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        start + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        chunked + b"ffffffffffffffff\r\n",
        chunked + b"-1\r\n\r\n",
        chunked + b"5;" + b"x" * 70_000 + b"\r\n{}   \r\n0\r\n\r\n",
        chunked + b"2\r\n{}\r\n0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        chunked + b"2\r\n{}XX0\r\n\r\n",
        chunked + b"2\n{}\n0\n\n",
        chunked + b"zz\r\n",
        start + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        start + b"".join(b"X%d: y\r\n" % number for number in range(5000)) + b"\r\n",
        start + b"X\0: y\r\n\r\n",
        start + b"X: y\0\r\n\r\n",
        start + b"X: y\rZ: z\r\n\r\n",
        start + b" folded: y\r\n\r\n",
        start + b"Host: evil.example\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.0\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /v1/models\r\n",
        b"GET  /v1/models  HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"G" * 200_000,
        b"\0" * 1000,
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(300),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
        b"\r\n\r\n\r\n" + hidden,
        hidden * 50,
        head.replace(b"Content-Length: ", b"Content-Length: 1") + b"\r\n\r\n" + content,
        head + b"\r\nExpect: 100-continue\r\n\r\n" + content,
        good[: len(good) // 2],
        good + hidden,
    )  # fmt: skip
    while True:
        made = random.choice(known)
        if random.random() < 0.3:
            at = random.randrange(min(len(made), 300))
            made = made[:at] + random.randbytes(random.choice((1, 2, 9))) + made[at + random.choice((0, 1)) :]
        yield Case(f"wire {made[:90]!r}", "", "", made, may_close=True)


KINDS: Mapping[str, Making] = {
    "pictures": _pictures,
    "bombs": _bombs,
    "json": _json,
    "tensors": _raw_tensors,
    "forms": _forms,
    "targets": _targets,
    "wires": _wires,
}
