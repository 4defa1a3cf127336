"""The parts of `benchmarks/gpu_report.py`, in the order of evidence; each runs in a process of its own."""
