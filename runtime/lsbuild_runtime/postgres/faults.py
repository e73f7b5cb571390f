"""A failure of the database -> an ApiError that says what to do; nothing of a connection string is ever repeated."""

from __future__ import annotations

import psycopg

from lsbuild_runtime.http import ApiError

RETRY_AFTER = 5

_UNREACHABLE = (
    ("timeout", "did not answer in time: check the network and connect_timeout"),
    ("refused", "refused the connection: check host and port, and that PostgreSQL is running"),
    ("resolve", "has a host name that cannot be resolved"),
    ("translate host name", "has a host name that cannot be resolved"),
    ("No such file", "has no socket at this place: check host and port, and that PostgreSQL is running"),
    ("SSL", "and this server do not agree about TLS: check sslmode and the certificates"),
    ("password", "needs a password: set it in config"),
)
"""What libpq says of a connection that never came about -> what we say: its own text may hold parts of a password."""

_STATES = {
    "25006": ("database_read_only", "takes no writes: it is a standby or set to read only; name the primary"),
    "3D000": ("database_missing", "does not exist on the server: create it"),
    "3F000": ("database_missing", "has no schema of that name: let the user create it"),
    "42501": (
        "database_permission",
        "does not let this user do that: grant it CREATE on the database and on the schema",
    ),
    "55P03": ("database_busy", "is locked by somebody else"),
    "57014": ("database_timeout", "took longer than statement_timeout"),
}
_CLASSES = {
    "08": ("database_unreachable", "lost the connection"),
    "28": ("database_login", "refused the login: check user and password"),
    "40": ("database_busy", "asked to try again"),
    "53": ("database_busy", "is out of connections or memory"),
    "57": ("database_unreachable", "is starting, stopping, or was restarted"),
    "58": ("database_unreachable", "has trouble with its disk"),
}


def api_error(error: psycopg.Error, database: str) -> ApiError:
    """The answer for what psycopg raised: 507 or 503. ``database`` is what a message begins with: "the database of X"."""
    state = error.sqlstate or ""
    if state == "53100":
        message = f"{database} has no disk space left; nothing was changed"
        return ApiError(507, message, type="server_error", code="disk_full", retry_after=60)
    code, fault = _STATES.get(state) or _CLASSES.get(state[:2]) or _other(error, state)
    return unavailable(database, fault, code)


def unavailable(database: str, fault: str, code: str, retry_after: int = RETRY_AFTER) -> ApiError:
    """503 with Retry-After."""
    return ApiError(503, f"{database} {fault}", type="server_error", code=code, retry_after=retry_after)


def _other(error: psycopg.Error, state: str) -> tuple[str, str]:
    if state:
        return "database_error", f"failed: {error.diag.message_primary} (SQLSTATE {state})"
    text = str(error)
    if "authentication failed" in text or "no pg_hba.conf entry" in text:
        return _CLASSES["28"]
    if "does not exist" in text:
        return "database_login", "does not know the database or the user that config names"
    if "starting up" in text or "shutting down" in text or "recovery" in text:
        return _CLASSES["57"]
    if "too many clients" in text or "remaining connection slots" in text:
        return _CLASSES["53"]
    said = next((said for sign, said in _UNREACHABLE if sign in text), "cannot be reached or lost the connection")
    return "database_unreachable", said
