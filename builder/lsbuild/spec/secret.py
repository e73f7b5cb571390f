"""How a provider's config names a secret: by the variable that holds it where the artifact runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from lsbuild.spec.section import Section


class Secret(Section):
    """A value that is read from the environment when the artifact runs, and never stored in it."""

    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the environment variable."""
