"""Every class of error a user can meet, each with its exit code; nothing here prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LsbuildError(Exception):
    """Something the user can act on: says what happened, where, and what to do.

    Args:
        what: one sentence with the numbers that matter.
        where: a place the user can open (``spec.yaml:12:5``, a path, a step name), or "".
        hint: the way out, as an instruction, or "".
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.hint}" if self.hint else head

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; the default would call __init__ without the keywords.
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[LsbuildError], what: str, where: str, hint: str) -> LsbuildError:
    return kind(what, where=where, hint=hint)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a spec. ``path`` is the way to the value (("models", "chat", "source")); ``where`` is file:line:col."""

    path: tuple[str | int, ...]
    message: str
    where: str = ""

    def __str__(self) -> str:
        dotted = ".".join(str(part) for part in self.path)
        return f"{self.where or dotted or 'spec'}: {self.message}"


class SpecError(LsbuildError):
    """The spec is wrong; carries all problems found, in file order."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[object, ...]:
        return (SpecError, (self.problems,))


class SourceError(LsbuildError):
    """A model, document or package that the spec names is missing, unreachable or damaged."""

    exit_code = 3


class StepError(LsbuildError):
    """A compile step failed."""

    exit_code = 4


class GateError(LsbuildError):
    """A measured quality or a budget of the spec is not met, or the artifact would hold a secret."""

    exit_code = 5


class LockError(LsbuildError):
    """What was found differs from ``lsbuild.lock``."""

    exit_code = 6


class TargetError(LsbuildError):
    """The target refuses the bundle: a limit, a wrong architecture, a missing wheel."""

    exit_code = 7


class StoreError(LsbuildError):
    """The cache or the output folder cannot be used: disk full, read-only, damaged."""

    exit_code = 8


class VerifyError(LsbuildError):
    """An artifact did not pass its checks."""

    exit_code = 9


class ServeError(LsbuildError):
    """The artifact could not be served: port in use, boot failed."""

    exit_code = 10


class OfflineError(LsbuildError):
    """Something had to be fetched while ``--offline`` was given."""

    exit_code = 11
