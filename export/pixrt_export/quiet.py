"""What Hugging Face's libraries remark on a checkpoint that is fine helps nobody. Must not import them."""

import os


def quiet_libraries() -> None:
    """Ask only for errors; to be called before the libraries are imported."""
    for library in ("DIFFUSERS", "TRANSFORMERS", "HF_HUB", "DATASETS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
