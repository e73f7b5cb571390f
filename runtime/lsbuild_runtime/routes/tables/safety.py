"""Shields and moderation."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import GET, POST, routes_of

_moderations = routes_of("safety", "moderations")
_shields = routes_of("shields", "shields")
_run = routes_of("safety", "shields")

SAFETY = (
    _moderations(POST, "/v1/moderations", "Moderate texts", "create", "ModerationRequest", "ModerationObject"),
    _shields(GET, "/v1/shields", "List shields", "listing", "", "ShieldList"),
    _shields(GET, "/v1/shields/{id}", "Get a shield", "retrieve", "", "ShieldObject"),
    _run(POST, "/v1/safety/run-shield", "Run a shield", "run", "RunShieldRequest", "RunShieldResponse"),
)
