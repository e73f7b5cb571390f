"""All routes of the API, from the tables of ``routes/tables``; the handlers are in the module named after their API."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.core import INFERENCE, INSPECTION
from lsbuild_runtime.routes.tables.others import OTHERS
from lsbuild_runtime.routes.tables.safety import SAFETY
from lsbuild_runtime.routes.tables.stores import FILES, STORES
from lsbuild_runtime.routes.tables.workflows import WORKFLOWS

ROUTES = (*INSPECTION, *INFERENCE, *OTHERS, *SAFETY, *STORES, *FILES, *WORKFLOWS)
