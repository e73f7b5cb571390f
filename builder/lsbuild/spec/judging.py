"""Settings that all shields share which judge a text as a whole, whoever provides them: classifiers, judges, other servers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Where = Literal["input", "output", "tool_args", "retrieved"]
Action = Literal["block", "redact", "warn"]
CategoryName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9/-]{0,62}$")]


class Judging(BaseModel):
    """Settings of such a shield under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    where: Annotated[tuple[Where, ...], Field(min_length=1)] = ("input", "output", "tool_args", "retrieved")
    """The texts that it looks at."""
    every: Annotated[int, Field(ge=40, le=100_000)] | Literal["whole"] = 400
    """How a stream is looked at: in pieces of sentences with at most that many characters, or as a whole at its end."""

    def shared(self) -> dict[str, Any]:
        """For the runtime, which reads them as ``judged.Settings``."""
        return {"where": list(self.where), "every": None if self.every == "whole" else self.every}
