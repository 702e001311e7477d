"""From bytes to pixels to batches to codes."""

import os

# Before anything imports ONNX Runtime, whose builds may report their use to their makers: nobody was asked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
