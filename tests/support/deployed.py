"""What the files in `deploy/` are checked by: schemas, and how long a server may take to end."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator

from pixrt.options.serve import ServeOptions
from pixrt.serve.server import _LAST_ANSWERS_SECONDS
from pixrt.serve.supervisor import _PATIENCE

ROOT = Path(__file__).parent.parent.parent
DEPLOY, SCHEMAS = ROOT / "deploy", ROOT / "tests" / "data" / "schemas"


def schema(name: str) -> dict[str, Any]:
    """A schema of `tests/data/schemas`, where it is compressed."""
    read: dict[str, Any] = json.loads(gzip.decompress((SCHEMAS / f"{name}.gz").read_bytes()))
    return read


def errors_of(document: object, schema: Mapping[str, Any]) -> list[str]:
    """Where a document differs from its schema."""
    return [f"{each.json_path}: {each.message}" for each in Draft7Validator(schema).iter_errors(document)]


def seconds_to_end(options: ServeOptions) -> float:
    """After SIGTERM, at most: what is accepted is finished, taken by clients, and the worker ends."""
    return options.drain_seconds + _LAST_ANSWERS_SECONDS + _PATIENCE
