"""An ONNX file through the library's own parser: the network it becomes, or the nodes that it cannot take."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixrt.errors import EngineError
from pixrt_engines.library import Library

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A node that the parser refuses: its name, its operator, and why."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.node or '(unnamed)'} ({self.operator or 'unknown operator'}): {self.reason}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A network on its way to an engine, with the objects of the library that must outlive it."""

    builder: Any
    network: Any
    parser: Any
    logger: "ErrorLog"


@dataclass(frozen=True, slots=True)
class Attentions:
    """How many attentions a network has, and how many of them in FP32, which the libraries fuse into no kernel."""

    all: int
    in_fp32: int


class ErrorLog:
    """The library's logger: keeps the error lines, drops the rest."""

    def __init__(self, library: Library) -> None:
        self.lines: list[str] = []
        base: Any = library.module.ILogger
        lines = self.lines

        class Logger(base):  # type: ignore[misc]  # known when the library is imported
            """Forwards errors."""

            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity <= base.ERROR:
                    lines.append(" ".join(msg.split()))

        self.logger = Logger()


def parse(library: Library, path: Path) -> tuple[Parsed, tuple[Unsupported, ...]]:
    """Read an ONNX file and its external weights. The second of the result is empty if the network is whole.

    Raises EngineError if the library cannot be used.
    """
    trt = library.module
    log = ErrorLog(library)
    try:
        builder = trt.Builder(log.logger)
    except TypeError as error:  # what the binding makes of a library that refuses, such as without a GPU
        said = "; ".join(log.lines)[:300] or "it does not say why"
        raise EngineError(f"{library.name} {library.version} cannot start: {said}", remedy=_NO_GPU) from error
    # Types are the graph's: required on TensorRT 10, the only way on 11.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log.logger)
    parsed = Parsed(builder, network, parser, log)
    if parser.parse_from_file(str(path)):
        return parsed, ()
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    found = tuple(Unsupported(_text(e.node_name), _text(e.node_operator), " ".join(e.desc().split())) for e in errors)
    return parsed, found or (Unsupported("", "", f"{path} cannot be parsed"),)


def count_attentions(library: Library, parsed: Parsed) -> Attentions:
    """The attentions of a parsed network, by their softmaxes."""
    trt = library.module
    layers = [parsed.network.get_layer(index) for index in range(parsed.network.num_layers)]
    found = [layer.get_input(0).dtype for layer in layers if layer.type == trt.LayerType.SOFTMAX]
    return Attentions(len(found), found.count(trt.DataType.FLOAT))


_NO_GPU = "TensorRT needs a GPU and its driver here; TensorRT-RTX builds without: --library tensorrt-rtx"


def _text(member: Any) -> str:
    return str(member() if callable(member) else member)


def require_supported(component: str, unsupported: tuple[Unsupported, ...]) -> None:
    """Raise EngineError naming the first nodes that the parser refuses."""
    if unsupported:
        rest = len(unsupported) - _SHOWN
        more = f", and {rest} more" if rest > 0 else ""
        raise EngineError(
            f"the {component} cannot become an engine: {'; '.join(map(str, unsupported[:_SHOWN]))}{more}",
            remedy="Run it with another backend; `pixrt build --check` lists every node",
        )
