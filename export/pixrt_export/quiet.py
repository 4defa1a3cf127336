"""What Hugging Face's libraries remark on a checkpoint that is fine helps nobody; ONNX Runtime tells others of it.

Must not import them.
"""

import os


def quiet_libraries() -> None:
    """Ask only for errors, and for no telemetry; to be called before the libraries are imported."""
    import pixrt.backends.ort  # noqa: F401  # where ONNX Runtime is told

    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB", "DATASETS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
