"""How the builder reaches a web server: one pool of connections with the environment's proxies and certificates.

HTTP_PROXY, NO_PROXY and SSL_CERT_FILE count as they do for other tools; this machine itself is never behind a proxy.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:  # most builds fetch from no web server
    import urllib3

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether ``host`` (without a port) is this machine."""
    return host in _LOOPBACK or host.startswith("127.")


def pool(url: str, timeout: urllib3.Timeout, **more: Any) -> urllib3.PoolManager:
    """Connections to the server of ``url``; ``more`` goes to urllib3."""
    import urllib3

    parts = urlsplit(url)
    host = parts.hostname or ""
    certificates = os.environ.get("SSL_CERT_FILE")
    secure = ssl.create_default_context(cafile=certificates) if parts.scheme == "https" else None
    proxy = None if is_loopback(host) or proxy_bypass(host) else getproxies().get(parts.scheme)
    if proxy:
        return urllib3.ProxyManager(proxy, timeout=timeout, ssl_context=secure, **more)
    return urllib3.PoolManager(timeout=timeout, ssl_context=secure, **more)


def reason(error: Exception) -> str:
    """What went wrong below urllib3's own words."""
    return str(getattr(error, "reason", None) or error)
