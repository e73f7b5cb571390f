"""The sections of a spec whose entries belong to providers, in the order in which they are compiled and listed."""

from __future__ import annotations

KINDS = ("models", "vector_stores", "shields", "tools", "agents", "workflows", "prompts", "evals")
