"""ONNX Runtime. Only `backend` imports onnxruntime, when `info` opens it."""
