"""A double of `triton_python_backend_utils`: what Triton's Python backend gives a model to speak with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class TritonError(Exception):
    """With the codes that clients get statuses of."""

    INTERNAL, INVALID_ARG = 1, 3

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        super().__init__(message)
        self.code = code


class Tensor:
    """A name and an array."""

    def __init__(self, name: str, array: "np.ndarray[Any, Any]") -> None:
        assert array.dtype != np.float64
        self._name, self._array = name, array

    def name(self) -> str:
        """Its name."""
        return self._name

    def as_numpy(self) -> "np.ndarray[Any, Any]":
        """Its array."""
        return self._array


@dataclass
class InferenceRequest:
    """What a client sent: columns of bytes by a tensor's name, a row for each element of its batch."""

    columns: Mapping[str, Sequence[bytes]]
    said: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> str:
        """The parameters as JSON; empty if there are none."""
        return json.dumps(self.said) if self.said else ""


@dataclass
class InferenceResponse:
    """The answer to one request: tensors or an error."""

    output_tensors: Sequence[Tensor] = ()
    error: TritonError | None = None

    def column(self, name: str) -> list[Any]:
        """The elements of an output."""
        assert self.error is None, self.error
        (tensor,) = (each for each in self.output_tensors if each.name() == name)
        assert tensor.as_numpy().shape == (len(tensor.as_numpy()), 1), "a row for each element, of dims [ 1 ]"
        return list(tensor.as_numpy()[:, 0])


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """None for an optional input that the client left out."""
    if name not in request.columns:
        return None
    return Tensor(name, np.array(list(request.columns[name]), np.object_).reshape(-1, 1))
