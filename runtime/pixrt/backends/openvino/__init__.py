"""OpenVINO on the CPU. Only `backend` imports openvino, when `info` opens it."""
