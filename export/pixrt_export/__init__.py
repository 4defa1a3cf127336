"""Everything that needs PyTorch: checkpoints, ONNX export, training. May import pixrt, never the reverse."""
