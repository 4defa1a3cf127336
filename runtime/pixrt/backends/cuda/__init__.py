"""What runs networks on a CUDA device, whichever library computes them: memory, copies, calls and loops."""
