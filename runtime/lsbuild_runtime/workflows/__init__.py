"""Workflows: steps that are done one after the other, each kept as it ends. Light, for start: it loads nothing."""

from __future__ import annotations

FOLDER = "workflows"
"""Below the state folder."""
FILE_NAME = "runs.db"
API = "workflows"
