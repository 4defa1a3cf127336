"""ONNX Runtime. Only `backend` and `probe` import onnxruntime, when `info` opens them."""

import os

# Since 1.32 its Linux wheels, too, tell Microsoft of every session, unless this is set before they are imported;
# `onnxruntime.disable_telemetry_events` comes too late for the first events.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
