"""Commands that need packages beyond the runtime's: one check, before any work."""

from importlib.util import find_spec
from typing import Literal

from pixrt.errors import PackageMissing


def require_packages(*modules: str, extra: Literal["export", "otel", "ray", "serve", "train"], purpose: str) -> None:
    """Raise PackageMissing unless all modules can be imported. `purpose` begins the sentence: "exporting"."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise PackageMissing(
            f"{purpose} needs {', '.join(missing)}, which cannot be imported here",
            remedy=f"Install what is missing: pip install 'pixrt[{extra}]'",
        )
