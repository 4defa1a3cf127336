"""Every use that pixrt makes of TensorRT's Python classes, read out of its source.

What an expression is of is said here once, for each file; whatever pixrt asks of such an expression is found by the
syntax tree, so a new call cannot be forgotten. Must not import pixrt.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RUNTIME, ENGINES = "runtime/pixrt/backends/tensorrt", "engines/pixrt_engines"
_CONFIG, _PARSED = "IBuilderConfig", {"parsed.builder": "Builder", "parsed.network": "INetworkDefinition"}

# File: expression, class; "" is the module itself.
RECEIVERS = {
    f"{RUNTIME}/backend.py": {"module": "", "self._runtime": "Runtime", "module.ILogger": "ILogger"},
    f"{RUNTIME}/execution.py": {"self._context": "IExecutionContext"},
    f"{RUNTIME}/plan.py": {
        "self._owner.module": "",
        "owner.module": "",
        "self.engine": "ICudaEngine",
        "context": "IExecutionContext",
        "self._owner.module.ExecutionContextAllocationStrategy": "ExecutionContextAllocationStrategy",
    },
    f"{RUNTIME}/reading.py": {"module": "", "runtime": "Runtime", "module.IStreamReaderV2": "IStreamReaderV2"},
    f"{RUNTIME}/kernels.py": {
        "owner.module": "",
        "self._engine": "ICudaEngine",
        "engine": "ICudaEngine",
        "engine.create_runtime_config()": "IRuntimeConfig",
        "config": "IRuntimeConfig",
        "self._cache": "IRuntimeCache",
        "self._strategies": "DynamicShapesKernelSpecializationStrategy",
        "made": "IHostMemory",
    },
    f"{RUNTIME}/refit.py": {
        "module": "",
        "self._module": "",
        "refitter": "Refitter",
        "parser": "OnnxParserRefitter",
    },
    f"{ENGINES}/parsing.py": {
        "trt": "",
        "library.module": "",
        "builder": "Builder",
        "parser": "OnnxParser",
        "e": "ParserError",
        "trt.NetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag",
        "base": "ILogger",
        "parsed.network": "INetworkDefinition",
        "layer": "ILayer",
        "layer.get_input(0)": "ITensor",
        "trt.LayerType": "LayerType",
        "trt.DataType": "DataType",
    },
    f"{ENGINES}/settings.py": {
        "trt": "",
        "config": _CONFIG,
        **_PARSED,
        "shapes": "IOptimizationProfile",
        "tensor": "ITensor",
        "trt.HardwareCompatibilityLevel": "HardwareCompatibilityLevel",
        "trt.MemoryPoolType": "MemoryPoolType",
        "config.get_timing_cache()": "ITimingCache",
    },
    f"{ENGINES}/builder.py": {"config": _CONFIG, **_PARSED},
    f"{ENGINES}/progress.py": {"library.module": ""},
    f"{ENGINES}/library.py": {"self.module": ""},
}
# Files and functions of what only one of the two libraries has.
ONLY_RTX = {f"{RUNTIME}/kernels.py"}
RTX_MEMBERS = {"ComputeCapability", "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
RTX_MEMBERS |= {"BuilderFlag.REQUIRE_USER_ALLOCATION"}
# Asked for before it is used: 10.3 has none.
GUARDED = {"IStreamReaderV2", "IStreamReaderV2.__init__"}
# Files with a table whose keys are names of flags.
FLAGS = {f"{ENGINES}/settings.py"}


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One use of a member: how many arguments it is called with, None where it is not called."""

    file: str
    line: int
    member: str
    positional: int | None
    keywords: tuple[str, ...] = ()

    @property
    def libraries(self) -> tuple[str, ...]:
        """Which libraries must have it."""
        is_rtx = self.file in ONLY_RTX or self.member in RTX_MEMBERS
        return ("tensorrt_rtx",) if is_rtx else ("tensorrt", "tensorrt_rtx")


def uses(texts: dict[str, str] | None = None) -> list[Use]:
    """All of them; of these texts by file in place of what is on disk."""
    found: set[Use] = set()
    for file, receivers in RECEIVERS.items():
        text = (texts or {}).get(file) or (ROOT / file).read_text(encoding="utf-8")
        tree = ast.parse(text)
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or ast.unparse(node.value) not in receivers:
                continue
            owner = receivers[ast.unparse(node.value)]
            member = f"{owner}.{node.attr}" if owner else node.attr
            call = calls.get(id(node))
            given = (None, ()) if call is None else (len(call.args), tuple(str(k.arg) for k in call.keywords))
            if call is not None and node.attr == "__init__":
                given = len(call.args) - 1, given[1]  # called of the class, with the instance
            found.add(Use(file, node.lineno, member, *given))
        if file in FLAGS:
            keys = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
            names = [(str(key.value), key.lineno) for key in keys if isinstance(key, ast.Constant)]
            found |= {Use(file, at, f"BuilderFlag.{name}", None) for name, at in names if name.isupper()}
    return sorted(found, key=lambda use: (use.file, use.line, use.member))
