"""What TensorRT-RTX makes of a network: its layers, read from the log of a build. A process of its own; no GPU needed.

    python tests/support/rtx_layers.py BUNDLE COMPONENT ONNX [--sizes 64x64,96x64 --batch 1-4 --branches 3]

prints JSON: the softmaxes and norms of the network, the plan's bytes and profiles, and each layer of it.
"""

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx

from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt_engines.library import Library, open_library
from pixrt_engines.options import Knobs, parse_batch, parse_branches, parse_sizes
from pixrt_engines.parsing import Parsed, count_attentions
from pixrt_engines.profiles import plan_profiles
from pixrt_engines.settings import configure
from pixrt_engines.targets import resolve_targets

LAYER = re.compile(r"^\s*Name: (?P<name>[^,]+), LayerType: (?P<kind>\w+)")


class Lines:
    """All that the library logs."""

    def __init__(self, library: Library) -> None:
        self.lines: list[str] = []
        base: Any = library.module.ILogger
        lines = self.lines

        class Logger(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                lines.append(msg)

        self.logger = Logger()


def layers(
    bundle: Path, component: Component, onnx_file: Path, asked: tuple[str, str, str], log_to: Path | None = None
) -> dict[str, Any]:
    """Build a component of a bundle for sm89, from that ONNX file, and read the log."""
    library = open_library("tensorrt-rtx")
    trt, manifest = library.module, open_bundle(bundle, verify=False).manifest
    sizes, batch, branches = asked
    named = plan_profiles(component, manifest, parse_sizes(sizes), parse_batch(batch), parse_branches(branches))
    log = Lines(library)
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    assert parser.parse_from_file(str(onnx_file)), log.lines[-3:]
    parsed = Parsed(builder, network, parser, log)  # type: ignore[arg-type]
    config = configure(library, parsed, [each.profile for each in named], resolve_targets(library, ("sm89",)), Knobs())
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.lines[-3:]
    nodes = onnx.load(str(onnx_file), load_external_data=False).graph.node
    text = "\n".join(log.lines).splitlines()
    if log_to is not None:
        log_to.write_text("\n".join(log.lines))
    return {
        "profiles": len(named),
        "softmaxes": sum(node.op_type == "Softmax" for node in nodes),
        "norms": sum(node.op_type in ("InstanceNormalization", "GroupNormalization") for node in nodes),
        "attentions": asdict(count_attentions(library, parsed)),
        "bytes": memoryview(plan).nbytes,
        "layers": [found.groupdict() for line in text for found in [LAYER.match(line)] if found],
    }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("component", type=Component)
    arguments.add_argument("onnx", type=Path)
    for name, default in (("--sizes", ""), ("--batch", "1"), ("--branches", "3")):
        arguments.add_argument(name, default=default)
    arguments.add_argument("--log", type=Path)
    given = arguments.parse_args()
    asked = given.sizes, given.batch, given.branches
    json.dump(layers(given.bundle, given.component, given.onnx, asked, given.log), sys.stdout)
