"""ONNX Runtime. The only room that imports onnxruntime."""
