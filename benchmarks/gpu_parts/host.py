"""What a step costs the host: of the device loop with PyTorch's double, and of the pool on a network of nothing."""

import statistics
from typing import Any

from gpu_parts.loop import open_double
from gpu_parts.session import Session


def run(session: Session) -> None:
    """Milliseconds that the host takes to enqueue a step of one picture, and of two, once it is captured."""
    import overhead

    pool = overhead.make_pool(1)
    tracks = [overhead.make_a_track("euler_ancestral", session.steps, 0)]
    alone = [overhead.run(pool, tracks, session.steps)[1] * 1000 / session.steps for _ in range(10)]
    session.tell(pool_without_a_network_ms=statistics.median(alone))
    folder, _ = open_double(session)
    from gpu_parts.edits import timed_steps
    from pixrt import Editor
    from simulated_edits import edit, picture

    with Editor(folder, backend="tensorrt") as editor:
        device: Any = editor._backend.context.device  # type: ignore[attr-defined]
        given: dict[str, dict[str, Any]] = {
            "one picture": {"pictures": [picture(60)], "texts": ["make it winter"], "seed": [5]},
            "two pictures": {},
        }
        for name, parameters in given.items():
            edit(editor, steps=session.steps, **parameters)
            with timed_steps(device) as (marks, host_ms):
                edit(editor, steps=session.steps, **parameters)
                device.run(marks.clear)  # events are freed in the device's thread
            session.tell(**{f"{name}, host_ms": statistics.median(host_ms)})
