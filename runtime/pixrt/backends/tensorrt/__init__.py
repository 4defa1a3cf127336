"""TensorRT and TensorRT-RTX on a CUDA device."""
