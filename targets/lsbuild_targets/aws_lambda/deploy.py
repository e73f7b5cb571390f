"""Puts an artifact on AWS through boto3: layers, function, version, health, then the alias ``live``; and back again.

The alias moves last and only to a version that answered. What it pointed to before stands in its description, so a rollback
needs nothing but the alias itself. Layers whose content is there already are not sent again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lsbuild.api import Deployment, Json, TargetError, VerifyError
from lsbuild_targets.aws_lambda import doors
from lsbuild_targets.aws_lambda import options as limits
from lsbuild_targets.aws_lambda.record import Record, Zip
from lsbuild_targets.aws_lambda.unpack import IMAGE

ALIAS = "live"
_READY = doors.event("GET", "/v1/ready", (), b"", streams=False)
_BEFORE = "before it: "
_NOT_FOUND = "ResourceNotFoundException"

Say = Callable[[str], None]


def deploy(artifact: Path, record: Record, order: Deployment, say: Say) -> Mapping[str, Json]:
    """Make the artifact what ``live`` answers with; returns function, version, what was live before, and the URL.

    Raises TargetError when AWS refuses something or a setting is missing (nothing is live then that was not before),
    VerifyError when the new version does not answer: ``live`` stays, or is put back.
    """
    with _told():
        account = Account(order, order.name or record.name)
        if order.rollback:
            return account.roll_back(say)
        configuration = _configuration(record, order, account.variables())
        configuration |= {"Layers": [account.layer(artifact, record, each, say) for each in record.layers]}
        account.put(artifact, record, configuration, say)
        version = account.publish(say)
        _require_ready(account, version, say)
        before = account.point(version)
        try:
            _require_ready(account, ALIAS, say)
        except VerifyError:
            account.point_back(before)
            raise
        say(f"{ALIAS} is version {version}" + (f", {before} before" if before else ""))
        url = account.url(record) if record.url != "none" else ""
        return {"function": account.name, "version": version, "before": before, "url": url}


class Account:
    """One function in one region of an account."""

    def __init__(self, order: Deployment, name: str) -> None:
        self.name = name
        self._order = order
        try:
            import boto3
        except ImportError as error:
            raise TargetError("deploying needs boto3", hint="pip install 'lsbuild[aws]'") from error
        self._session = boto3.Session(region_name=order.region or None)
        if not self._session.region_name:
            raise TargetError("no region is known", hint="name one with --region, or set AWS_DEFAULT_REGION")
        self._lambda = self._session.client("lambda")

    def variables(self) -> dict[str, str] | None:
        """The environment of the function as it stands; None when there is no function yet."""
        with contextlib.suppress(_Missing), _missing():
            found = self._lambda.get_function_configuration(FunctionName=self.name)
            return dict(found.get("Environment", {}).get("Variables", {}))
        return None

    def layer(self, artifact: Path, record: Record, layer: Zip, say: Say) -> str:
        """The ARN of a layer version with this content: the newest that there is, or a new one."""
        name = f"{self.name}-{layer.file.removeprefix('layer-').removesuffix('.zip')}"
        description = f"lsbuild {layer.content}"
        for page in self._lambda.get_paginator("list_layer_versions").paginate(LayerName=name):
            for known in page["LayerVersions"]:
                if known.get("Description") == description:
                    say(f"{layer.file}: is there already")
                    return str(known["LayerVersionArn"])
        say(f"{layer.file}: {layer.size / 1e6:.1f} MB to {name}")
        made = self._lambda.publish_layer_version(
            LayerName=name,
            Description=description,
            Content=self._content(artifact / layer.file, layer),
            CompatibleRuntimes=[record.runtime],
            CompatibleArchitectures=[record.arch],
        )
        return str(made["LayerVersionArn"])

    def put(self, artifact: Path, record: Record, configuration: dict[str, Any], say: Say) -> None:
        """Create the function, or give it new code and settings; returns when AWS is done with that."""
        code = self._code(artifact, record, say)
        if self.variables() is None:
            if not self._order.role:
                raise TargetError(
                    f"there is no function {self.name!r} yet", hint="name its execution role with --role ARN"
                )
            say(f"create {self.name}")
            self._lambda.create_function(
                FunctionName=self.name,
                Role=self._order.role,
                PackageType="Zip" if record.package == "zip" else "Image",
                Code=code,
                Architectures=[record.arch],
                **configuration,
            )
            self._lambda.get_waiter("function_active_v2").wait(FunctionName=self.name)
            return
        say(f"update {self.name}")
        self._lambda.update_function_code(FunctionName=self.name, Architectures=[record.arch], **code)
        self._lambda.get_waiter("function_updated_v2").wait(FunctionName=self.name)
        role = {"Role": self._order.role} if self._order.role else {}
        self._lambda.update_function_configuration(FunctionName=self.name, **configuration, **role)
        self._lambda.get_waiter("function_updated_v2").wait(FunctionName=self.name)

    def publish(self, say: Say) -> str:
        """Freeze code and settings as a version, ready to be invoked (a snapshot is taken before that)."""
        version = str(self._lambda.publish_version(FunctionName=self.name)["Version"])
        say(f"version {version}")
        self._lambda.get_waiter("published_version_active").wait(FunctionName=self.name, Qualifier=version)
        return version

    def invoke(self, qualifier: str, event: bytes) -> doors.Answer:
        """The answer of one version or alias. Raises doors.FunctionFailed."""
        answer = self._lambda.invoke(FunctionName=self.name, Qualifier=qualifier, Payload=event)
        return doors.answer(answer["Payload"].read())

    def point(self, version: str) -> str:
        """Make the alias mean ``version``; returns what it meant before, "" when there was none."""
        known = self._alias()
        if known is None:
            self._lambda.create_alias(FunctionName=self.name, Name=ALIAS, FunctionVersion=version, Description="")
            return ""
        before = str(known["FunctionVersion"])
        if before != version:
            self._lambda.update_alias(
                FunctionName=self.name, Name=ALIAS, FunctionVersion=version, Description=f"{_BEFORE}{before}"
            )
        return before

    def point_back(self, before: str) -> None:
        """Undo ``point``."""
        if before:
            self._lambda.update_alias(FunctionName=self.name, Name=ALIAS, FunctionVersion=before, Description="")
        else:
            self._lambda.delete_alias(FunctionName=self.name, Name=ALIAS)

    def roll_back(self, say: Say) -> Mapping[str, Json]:
        """Make the alias mean again what it meant before its last move. Raises TargetError when that is not known."""
        known = self._alias()
        before = (known or {}).get("Description", "").removeprefix(_BEFORE) if known else ""
        if known is None or not before:
            raise TargetError(
                f"{self.name} has no version to go back to", hint="each deployment makes one; a rollback uses it up"
            )
        bad = str(known["FunctionVersion"])
        self.point_back(before)
        say(f"{ALIAS} is version {before} again, {bad} before")
        return {"function": self.name, "version": before, "before": bad, "url": ""}

    def url(self, record: Record) -> str:
        """The function URL of the alias, made or set as the artifact wants it."""
        wanted = {
            "AuthType": "NONE" if record.url == "public" else "AWS_IAM",
            "InvokeMode": "RESPONSE_STREAM" if record.stream else "BUFFERED",
        }
        common = {"FunctionName": self.name, "Qualifier": ALIAS}
        known: Mapping[str, Any] = {}
        with contextlib.suppress(_Missing), _missing():
            known = self._lambda.get_function_url_config(**common)
        change = self._lambda.update_function_url_config if known else self._lambda.create_function_url_config
        found = change(**common, **wanted)
        if record.url == "public" and known.get("AuthType") != "NONE":
            self._open_to_all()
        return str(found["FunctionUrl"])

    def _open_to_all(self) -> None:
        common = {"FunctionName": self.name, "Qualifier": ALIAS, "Principal": "*"}
        self._lambda.add_permission(
            **common, StatementId="url", Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE"
        )
        self._lambda.add_permission(
            **common, StatementId="url-invoke", Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True
        )

    def _alias(self) -> Mapping[str, Any] | None:
        with contextlib.suppress(_Missing), _missing():
            found: Mapping[str, Any] = self._lambda.get_alias(FunctionName=self.name, Name=ALIAS)
            return found
        return None

    def _code(self, artifact: Path, record: Record, say: Say) -> dict[str, Any]:
        if record.package == "zip":
            return self._content(artifact / record.function.file, record.function)
        from lsbuild_targets.aws_lambda import ecr  # zip files need no registry

        pushed = self._order.image or ecr.push(self._session.client("ecr"), artifact / IMAGE, self.name, say)
        return {"ImageUri": pushed}

    def _content(self, path: Path, known: Zip) -> dict[str, Any]:
        """The zip itself, or where it lies in S3 when it is too large to be sent directly."""
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != known.sha256:
            raise TargetError("is not what was built", where=str(path), hint="build the artifact again")
        if len(data) <= limits.DIRECT and not self._order.bucket:
            return {"ZipFile": data}
        if not self._order.bucket:
            raise TargetError(
                f"has {len(data):,} bytes, and {limits.DIRECT:,} may be sent directly",
                where=path.name,
                hint="name an S3 bucket of the same region with --bucket",
            )
        key = f"lsbuild/{self.name}/{known.sha256}.zip"
        checksum = base64.b64encode(bytes.fromhex(known.sha256)).decode()
        self._session.client("s3").put_object(Bucket=self._order.bucket, Key=key, Body=data, ChecksumSHA256=checksum)
        return {"S3Bucket": self._order.bucket, "S3Key": key}


class _Missing(Exception):
    """AWS knows no such thing."""


@contextlib.contextmanager
def _missing() -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == _NOT_FOUND:
            raise _Missing from error
        raise


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What boto3 raises becomes one sentence of ours."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise TargetError("deploying needs boto3", hint="pip install 'lsbuild[aws]'") from error
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        raise TargetError(f"AWS refused {error.operation_name}: {told.get('Code')}: {told.get('Message')}") from error
    except BotoCoreError as error:
        raise TargetError(f"AWS cannot be asked: {error}", hint="check credentials, region and network") from error


def _configuration(record: Record, order: Deployment, old: Mapping[str, str] | None) -> dict[str, Any]:
    """Settings of the function. Secrets are those given now, or those that it has already. TargetError names a missing one."""
    kept = {name: value for name, value in (old or {}).items() if name in record.secrets}
    variables = {**record.environment, **kept, **order.environment}
    if missing := [name for name in record.secrets if not variables.get(name)]:
        raise TargetError(
            f"the function needs {', '.join(missing)}",
            hint=f"set it here and say --env {missing[0]}, or --env {missing[0]}=VALUE",
        )
    configuration: dict[str, Any] = {
        "MemorySize": record.memory,
        "Timeout": record.timeout,
        "Environment": {"Variables": variables},
    }
    if record.package == "zip":
        configuration |= {"Runtime": record.runtime, "Handler": "bootstrap"}
        configuration["SnapStart"] = {"ApplyOn": "PublishedVersions" if record.snapstart else "None"}
    return configuration


def _require_ready(account: Account, qualifier: str, say: Say) -> None:
    """Ask a version or the alias for /v1/ready. Raises VerifyError with what it said instead of yes."""
    try:
        answer = account.invoke(qualifier, _READY)
    except doors.FunctionFailed as error:
        raise _unwell(account, qualifier, str(error)) from error
    if answer.status != 200:
        raise _unwell(account, qualifier, f"{answer.status} {answer.body[:300].decode('utf-8', 'replace')}")
    say(f"{qualifier} is ready")


def _unwell(account: Account, qualifier: str, said: str) -> VerifyError:
    return VerifyError(
        f"{account.name}:{qualifier} is not ready: {said}",
        where="/v1/ready",
        hint=f"{ALIAS} is as it was; the function's log in CloudWatch says more.",
    )
