"""All routes of the API, from the tables of ``routes/tables``; the handlers are in the module named after their API."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.core import ADMIN, INFERENCE, INSPECTION
from lsbuild_runtime.routes.tables.others import BATCHES, OTHERS, PROMPTS
from lsbuild_runtime.routes.tables.responses import CONVERSATIONS, RESPONSES
from lsbuild_runtime.routes.tables.safety import SAFETY
from lsbuild_runtime.routes.tables.stores import FILES, STORES
from lsbuild_runtime.routes.tables.tools import TOOLS
from lsbuild_runtime.routes.tables.workflows import WORKFLOWS

ROUTES = (
    *INSPECTION,
    *ADMIN,
    *INFERENCE,
    *RESPONSES,
    *CONVERSATIONS,
    *WORKFLOWS,
    *OTHERS,
    *PROMPTS,
    *BATCHES,
    *SAFETY,
    *TOOLS,
    *STORES,
    *FILES,
)
