"""onnxruntime with its telemetry off; the only module that imports it, so that nothing can load it in another way but `capi`'s.

onnxruntime 1.31 opens a database and writes a device id below ~/.cache as it is imported, before its own
``disable_telemetry_events`` can be called, and uploads events later. It reads this variable first, and then creates none
of them; the decision holds for the life of the process.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

__all__ = ["ort"]
