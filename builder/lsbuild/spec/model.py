"""The types of a distribution spec: every key a user may write, with its meaning, default and example.

Frozen values only. Loading, merging and substitution are ``load``'s; what a provider adds is the provider's. The sections
are in the modules beside this one, and all of them can be had here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from lsbuild.spec.agents import Agent, Limits, Prompt
from lsbuild.spec.models import Budget, Candidate, Model
from lsbuild.spec.section import OrText, Section
from lsbuild.spec.serving import Budgets, Eval, Server, ServerLimits, State
from lsbuild.spec.shields import Shield, ShieldCandidate
from lsbuild.spec.stores import Chunking, Documents, Fusion, VectorStore
from lsbuild.spec.tools import TOOL_PROVIDERS, HttpCall, McpServer, Tool
from lsbuild.spec.units import Name
from lsbuild.spec.workflow import Workflow

__all__ = [
    "TOOL_PROVIDERS",
    "Agent",
    "Budget",
    "Budgets",
    "Candidate",
    "Chunking",
    "Documents",
    "Eval",
    "Fusion",
    "HttpCall",
    "Limits",
    "McpServer",
    "Model",
    "Prompt",
    "Section",
    "Server",
    "ServerLimits",
    "Shield",
    "ShieldCandidate",
    "Spec",
    "State",
    "Tool",
    "VectorStore",
    "Workflow",
]


class Spec(Section):
    """A distribution spec: what to serve, and from what."""

    version: Literal[1] = 1
    """Version of this format."""
    name: Name = "distribution"
    """Name of the distribution; artifacts and images carry it."""
    params: dict[str, str | int | float | bool] = {}
    """Values for ``${params.NAME}`` in the rest of the file."""
    plugins: tuple[str, ...] = ()
    """Local folders with plugins of your own, relative to the spec."""
    models: dict[Name, Model] = {}
    """Models by the name clients use."""
    vector_stores: dict[Name, VectorStore] = {}
    """Document stores by the name clients use."""
    agents: dict[Name, Agent] = {}
    """Agents by the name clients use; each is also a model."""
    workflows: dict[Name, Workflow] = {}
    """Workflows by the name clients use; each is also a model."""
    shields: dict[Name, Shield] = {}
    """Shields by the name clients use."""
    tools: dict[Name, Tool] = {}
    """Tools and groups of tools, by the name agents use. ``file_search`` is the search of an agent's stores and no key here;
    a tool named ``web_search`` is what clients get who ask for one."""
    prompts: dict[Name, Annotated[Prompt, OrText, PlainSerializer(Prompt.spelled)]] = {}
    """Prompts by the name clients use."""
    evals: dict[Name, Eval] = {}
    """Question sets with gates, by name."""
    server: Server = Server()
    """Where and how the artifact listens."""
    budgets: Budgets = Budgets()
    """Limits that fail the build."""
    not_secrets: tuple[Annotated[str, Field(pattern="^[0-9a-f]{12}$")], ...] = ()
    """Fingerprints of what a build took for a secret in the artifact and is none; its error shows them."""
    targets: dict[str, dict[str, Any]] = {}
    """Per target: its own options (``arch``, ``base`` ...) and overrides of any key above."""
