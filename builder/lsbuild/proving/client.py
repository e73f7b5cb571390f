"""The few HTTP calls that questions to a booted artifact need; whatever else it answers than 200 is an AssertionError."""

from __future__ import annotations

import json
from typing import Any

_TIMEOUT_S = 120.0


class Client:
    """One server, by its address."""

    def __init__(self, base_url: str) -> None:
        import urllib3

        self._base = base_url.rstrip("/")
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self._json("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """The JSON of a POST."""
        return self._json("POST", path, json.dumps(body).encode())

    def status(self, path: str, body: bytes) -> int:
        """The status of a POST."""
        headers = {"content-type": "application/json"}
        return int(self._pool.request("POST", self._base + path, body=body, headers=headers).status)

    def _json(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"content-type": "application/json"}
        response = self._pool.request(method, self._base + path, body=body, headers=headers)
        if response.status != 200:
            raise AssertionError(f"{method} {path} gave {response.status}: {response.data[:200]!r}")
        return json.loads(response.data)
