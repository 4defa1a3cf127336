"""What a LoRA's configuration says its strength is: peft's, in the file's metadata or in a file beside it.

Must not import anything of pixrt but errors and reading.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pixrt.errors import LoraError
from pixrt.reading import Malformed, parse_json

METADATA_KEY = "lora_adapter_metadata"
CONFIG = "adapter_config.json"
Config = Mapping[str, Any]

# Methods of peft that change the weights that the LoRA is added to.
_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga", "eva")
_KINDS = ("LORA", "LOHA", "LOKR")
# peft's patterns: names of layers, and a few that are more than a name.
_MOST_NAMES, _MOST_PATTERNS, _LONGEST_PATTERN = 4096, 32, 200
_NAME = re.compile(r"[\w.]*")


def parse_config(file: str, text: str) -> dict[str, Any]:
    """peft's configuration, which is JSON. Raises LoraError for what is none."""
    try:
        config = parse_json(text, finite=False)
    except Malformed as error:
        problem = f"the configuration of {file} cannot be used: {error}"
        raise LoraError(problem, remedy="Save the LoRA again") from error
    if not isinstance(config, dict):
        raise LoraError(f"the configuration of {file} is not a JSON object", remedy="Save the LoRA again")
    for key, patterns in config.items():
        if key.endswith(("alpha_pattern", "rank_pattern")) and isinstance(patterns, dict):
            _require_few(file, key, list(patterns))
    return config


def section(config: Config, component: str, *, named: bool) -> dict[str, Any]:
    """What a configuration says of a component: under its name where the tensors are `named` so."""
    prefix = f"{component}." if named else ""
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def configured_scale(file: str, config: Config, module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv:2312.03732), as peft computes it; `rank` 0 is any.

    Raises LoraError for a method that is more than a change of weights, or another rank than the weights have.
    """
    kind, initial = config.get("peft_type") or "LORA", str(config.get("init_lora_weights")).lower()
    if kind not in _KINDS:
        raise LoraError(f"{file} is {str(kind)[:40]}", remedy=f"The kinds that are read are {', '.join(_KINDS)}")
    if config.get("use_dora") or initial.startswith(_CHANGING):
        told = "DoRA" if config.get("use_dora") else initial
        raise LoraError(f"{file} is {told:.40}, which is more than a sum of weights", remedy="Use a plain LoRA")
    given = config.get("lora_alpha" if kind == "LORA" else "alpha", 8)
    alpha = _by_pattern(file, config, "alpha_pattern", module, given)
    wanted = _by_pattern(file, config, "rank_pattern", module, config.get("r", 8))
    if wanted != rank and (rank or wanted <= 0):
        raise LoraError(
            f"{file} says the rank {wanted:g} for {module}, and its weights have {rank}", remedy="Save the LoRA again"
        )
    return alpha / (math.sqrt(wanted) if config.get("use_rslora") else wanted)


def _require_few(file: str, key: str, patterns: list[str]) -> None:
    """Raise LoraError for more patterns than a model has layers: each is tried on every layer."""
    special = sum(not _NAME.fullmatch(text) for text in patterns)
    longest = max(map(len, patterns), default=0)
    if len(patterns) > _MOST_NAMES or special > _MOST_PATTERNS or longest > _LONGEST_PATTERN:
        raise LoraError(
            f"the {key:.60} of {file} has {len(patterns)} entries, {special} of them more than a name, of up to"
            f" {longest} characters",
            remedy=f"{_MOST_NAMES} names and {_MOST_PATTERNS} patterns of up to {_LONGEST_PATTERN} characters are read",
        )


def _by_pattern(file: str, config: Config, key: str, module: str, default: Any) -> float:
    """peft's rule: the first pattern that matches the end of the module's name, else the default."""
    patterns = config.get(key) or {}
    value = default
    if isinstance(patterns, dict):
        value = next((number for text, number in patterns.items() if _matches(file, text, module)), default)
    if not isinstance(patterns, dict) or type(value) not in (int, float) or not math.isfinite(value):
        raise LoraError(f"the {key} of {file} is {str(patterns or value)[:80]}", remedy="Save the LoRA again")
    return float(value)


@lru_cache(maxsize=2 * _MOST_NAMES)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")


def _matches(file: str, pattern: str, module: str) -> bool:
    # A pattern comes from a stranger. Without groups and with two repeats at most it cannot take long.
    try:
        if not re.search(r"[(){}]", pattern) and len(re.findall(r"[*+?]", pattern)) <= 2:
            return _compiled(pattern).match(module) is not None
    except re.error:
        pass
    raise LoraError(f"{file} names its layers by the pattern {pattern!r:.80}", remedy="Save it with the layers' names")
