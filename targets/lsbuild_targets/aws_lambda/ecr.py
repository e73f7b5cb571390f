"""An image's way to Lambda: a repository in ECR, made when there is none, its login of a few hours, and the push.

Lambda takes images from ECR of the same region only, and reads them there by digest.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsbuild.api import TargetError
from lsbuild.disk import folder_from
from lsbuild.distribution import push as pushes
from lsbuild.distribution import reference
from lsbuild.distribution.client import Host
from lsbuild.distribution.credentials import Login
from lsbuild.distribution.errors import told_as
from lsbuild.distribution.known import Known
from lsbuild.packing.oci_read import published

_UNKNOWN = "RepositoryNotFoundException"

Say = Callable[[str], None]


def push(client: Any, layout: Path, function: str, say: Say) -> str:
    """Push the image in ``layout`` to the repository of ``function``; returns its URI, which ends with its digest.

    ``client`` is boto3's for ECR, whose errors pass. Raises TargetError for what the registry refuses, VerifyError for a
    damaged layout. The tag is the beginning of the digest, so that a version that Lambda still runs is never overwritten.
    """
    uri = _repository(client, repository_name(function), say)
    tag = published(layout).top.digest.removeprefix("sha256:")[:12]
    with told_as(TargetError, uri):
        to = reference.parse(f"{uri}:{tag}")
        host = Host(to.server, _login(client))
        return pushes.push(layout, to, host, Known(folder_from(os.environ), to.server), say).image


def repository_name(function: str) -> str:
    """A name that ECR takes: two or more small letters and digits, with dashes between them."""
    name = re.sub(r"[^a-z0-9]+", "-", function.lower()).strip("-")
    return name if len(name) > 1 else f"lsbuild-{name}"


def _repository(client: Any, name: str, say: Say) -> str:
    from botocore.exceptions import ClientError

    try:
        found = client.describe_repositories(repositoryNames=[name])["repositories"][0]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != _UNKNOWN:
            raise
        say(f"create the repository {name} in ECR")
        found = client.create_repository(repositoryName=name)["repository"]
    return str(found["repositoryUri"])


def _login(client: Any) -> Login:
    data = client.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    return Login(user, password)
