"""Every error of pixrt as what a client is told: one table, a line for each class of `pixrt.errors`.

Must not import numpy, Pillow or FastAPI: the worker uses it too.
"""

from collections.abc import Mapping

from pixrt import errors
from pixrt.serve.problems import Problem

# What the names of a job's parameters are in requests.
_PARAMS: Mapping[str, str] = {"text": "prompt"}

FAULT = "The server failed at this request. Its log says how."
STATUSES: Mapping[type[errors.PixrtError], tuple[int, str]] = {
    errors.PixrtError: (500, "internal_error"),
    errors.OptionError: (400, "invalid_value"),
    errors.LoraError: (400, "invalid_lora"),
    errors.EmbeddingError: (400, "invalid_embedding"),
    errors.PictureError: (400, "invalid_image"),
    errors.ParametersMissing: (400, "no_parameters"),
    errors.PictureUnreadable: (415, "unsupported_image"),
    errors.PictureTooLarge: (413, "image_too_large"),
    errors.BundleError: (503, "model_unavailable"),
    errors.BundleAltered: (503, "model_unavailable"),
    errors.BundleTooNew: (503, "model_unavailable"),
    errors.CheckpointError: (500, "internal_error"),
    errors.ExportMismatch: (500, "internal_error"),
    errors.BackendError: (500, "backend_failed"),
    errors.OutOfMemory: (507, "out_of_memory"),
    errors.DeviceLost: (503, "worker_lost"),
    errors.EngineError: (500, "backend_failed"),
    errors.OutputError: (500, "internal_error"),
    errors.TrainingError: (500, "internal_error"),
    errors.DataError: (500, "internal_error"),
    errors.PackageMissing: (500, "internal_error"),
    errors.SomeFailed: (500, "internal_error"),
    errors.Cancelled: (499, "cancelled"),
}


def problem_of(error: errors.PixrtError) -> Problem:
    """What a client is told of an error. Of one that is the server's own it learns no more than that."""
    kind = next(kind for kind in type(error).__mro__ if kind in STATUSES)
    status, code = STATUSES[kind]
    if status >= 500 and status != 507:
        return Problem(status, code, FAULT)
    param = _PARAMS.get(error.option, error.option)
    if not param and isinstance(error, errors.PictureError):
        param = "image"
    if isinstance(error, errors.LoraError):
        param = "lora"
    return Problem(status, code, str(error), param or None)
