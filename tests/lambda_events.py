"""Events of Lambda's five HTTP front doors as the service documents them, for one request told in five ways."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

Make = Callable[..., dict[str, Any]]


def function_url(
    method: str = "GET", path: str = "/v1/health", query: str = "", body: bytes = b"", **headers: str
) -> dict[str, Any]:
    """Format 2.0 of a function URL, whose bodies are base64 when they are no text."""
    return _version_2("abc123.lambda-url.eu-central-1.on.aws", "$default", method, path, query, body, headers)


def http_api(
    method: str = "GET", path: str = "/v1/health", query: str = "", body: bytes = b"", **headers: str
) -> dict[str, Any]:
    """Format 2.0 of API Gateway's HTTP API with a stage of its own, which stays in the path."""
    domain = "abc123.execute-api.eu-central-1.amazonaws.com"
    return _version_2(domain, "prod", method, f"/prod{path}", query, body, headers)


def rest_api(
    method: str = "GET", path: str = "/v1/health", query: str = "", body: bytes = b"", **headers: str
) -> dict[str, Any]:
    """Format 1.0 of API Gateway's REST API: single and multi values side by side, query decoded."""
    pairs = [part.split("=", 1) for part in query.split("&") if part]
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": _named(headers) or None,
        "multiValueHeaders": {name: [value] for name, value in _named(headers).items()} or None,
        "queryStringParameters": dict(pairs) or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in pairs} or None,
        "pathParameters": {"proxy": path.lstrip("/")},
        "stageVariables": None,
        "requestContext": {
            "stage": "prod",
            "httpMethod": method,
            "domainName": "x.execute-api.eu-central-1.amazonaws.com",
        },
        **_body(body, None),
    }


def alb(
    method: str = "GET", path: str = "/v1/health", query: str = "", body: bytes = b"", **headers: str
) -> dict[str, Any]:
    """A load balancer's event: the query is as the client wrote it, an absent body is the empty text."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/x/1"}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": dict(part.split("=", 1) for part in query.split("&") if part),
        "headers": {"host": "lb.eu-central-1.elb.amazonaws.com", **_named(headers)},
        **_body(body, ""),
    }


def alb_multi(
    method: str = "GET", path: str = "/v1/health", query: str = "", body: bytes = b"", **headers: str
) -> dict[str, Any]:
    """The same with multi-value headers turned on."""
    event = alb(method, path, query, body, **headers)
    event["multiValueHeaders"] = {name: [value] for name, value in event.pop("headers").items()}
    event["multiValueQueryStringParameters"] = {
        name: [value] for name, value in event.pop("queryStringParameters").items()
    }
    return event


DOORS: dict[str, Make] = {
    "function-url": function_url,
    "http-api": http_api,
    "rest-api": rest_api,
    "alb": alb,
    "alb-multi": alb_multi,
}


def _version_2(
    domain: str, stage: str, method: str, path: str, query: str, body: bytes, headers: dict[str, str]
) -> dict[str, Any]:
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {name.lower(): value for name, value in _named(headers).items()},
        "requestContext": {
            "accountId": "1", "apiId": "abc123", "domainName": domain, "http": http, "requestId": "id", "stage": stage,
            "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1583348638390,
        },
        **_body(body, None),
    }  # fmt: skip


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _body(body: bytes, absent: str | None) -> dict[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return {"body": text or absent, "isBase64Encoded": False}


def encoded(event: dict[str, Any]) -> bytes:
    """The event as the Runtime API hands it out."""
    return json.dumps(event).encode()
