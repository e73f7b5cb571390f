"""Serves a bundle on AWS Lambda: the Runtime API instead of a port; nothing here is imported anywhere else."""

import sys

# Powertools brings typing_extensions, which msgspec would load to look for what Python has itself: 20 ms of a cold start.
# powertools.py takes the mark away again.
sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
