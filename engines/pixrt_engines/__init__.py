"""ONNX to TensorRT plans, at build time. May import pixrt, never PyTorch."""
