"""What the worker tells the front of itself: its model, its caches, its device's memory."""

from collections.abc import Sequence
from dataclasses import asdict

from pixrt.backends.protocol import EngineMemory
from pixrt.editor.editor import Editor
from pixrt.options.schema import json_schema
from pixrt.options.tasks import TASK_OPTIONS, bundle_defaults
from pixrt.serve.messages import Kept, Model, State
from pixrt.serve.variants import Variants
from pixrt.tasks.registry import TASKS


def model_of(editor: Editor, loras: Sequence[str]) -> Model:
    """What clients are told of an opened bundle, and of the LoRAs that they may name."""
    manifest, native = editor.manifest, editor.manifest.native_resolution
    tasks = {task: options for task, options in TASK_OPTIONS.items() if manifest.task in TASKS[options].bundles}
    return Model(
        name=manifest.name,
        sha256=manifest.source.sha256,
        precision=manifest.precision,
        notice=manifest.notice,
        backend=editor.backend,
        native_resolution=native,
        size_multiple=manifest.size_multiple,
        tasks=tuple(tasks),
        defaults=asdict(manifest.defaults),
        schemas={
            task: json_schema(options, task, bundle_defaults(options, manifest.defaults, native))
            for task, options in tasks.items()
        },
        loras=tuple(loras),
        examples=manifest.examples,
    )


def state_of(variants: Variants) -> State:
    """Caches by what they hold, and the device's bytes by what they are for, of all weights that are open."""
    caches: dict[str, Kept] = {}
    memory: dict[str, int] = {}
    for editor in variants:
        for name, cache in editor.caches.items():
            kind = name.partition("_")[0]
            had = caches.get(kind, Kept(0, 0, 0, 0))
            caches[kind] = Kept(
                had.hits + cache.hits, had.misses + cache.misses, had.bytes + cache.bytes, had.limit + cache.limit
            )
        for engine in editor.memory:
            for kind, size in _bytes(engine).items():
                memory[kind] = memory.get(kind, 0) + size
    return State(caches, memory, variants.names)


def _bytes(engine: EngineMemory) -> dict[str, int]:
    return {name.removesuffix("_bytes"): value for name, value in asdict(engine).items() if isinstance(value, int)}
