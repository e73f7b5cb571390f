"""The SAM template and the Terraform configuration that deploy an artifact; pure, the same record gives the same bytes."""

from __future__ import annotations

import json
import re
from typing import Any

from lsbuild.packing.yaml_write import documents
from lsbuild_targets.aws_lambda.record import Record, Zip

SAM, TERRAFORM = "template.yaml", "main.tf.json"
_PLACEHOLDER = "REPOSITORY/NAME@sha256:DIGEST"


def sam(record: Record) -> bytes:
    """``template.yaml`` for ``sam deploy`` (AWS::Serverless-2016-10-31)."""
    return documents(
        _sam(record), comment="Written by lsbuild; `sam deploy --guided` deploys it, with the zip files beside it."
    )


def terraform(record: Record) -> bytes:
    """``main.tf.json`` for ``terraform apply`` (provider hashicorp/aws)."""
    return json.dumps(_terraform(record), indent=2).encode() + b"\n"


def parameter(secret: str) -> str:
    """The parameter of the SAM template that holds a secret: ``CLOUD_KEY`` -> ``CloudKey``."""
    return "".join(part[:1].upper() + part[1:].lower() for part in re.split(r"[^A-Za-z0-9]+", secret) if part)


def _sam(record: Record) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        parameter(name): {"Type": "String", "NoEcho": True, "Description": f"Secret {name} of the spec"}
        for name in record.secrets
    }
    if record.package == "image":
        parameters["ImageUri"] = {
            "Type": "String",
            "Description": "The image in ECR, by its digest, as `lsbuild push` prints it",
        }
    layers = {_title(layer): _sam_layer(record, layer) for layer in record.layers}
    outputs: dict[str, Any] = {
        "FunctionArn": {"Description": "The alias that answers", "Value": {"Ref": "Function.Alias"}},
    }
    if record.url != "none":
        outputs["Url"] = {"Description": "Base URL of the API", "Value": {"Fn::GetAtt": ["FunctionUrl", "FunctionUrl"]}}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"{record.name}, compiled by lsbuild",
        **({"Parameters": parameters} if parameters else {}),
        "Resources": {"Function": _sam_function(record, list(layers)), **layers, **_sam_permissions(record)},
        "Outputs": outputs,
    }


def _sam_function(record: Record, layers: list[str]) -> dict[str, Any]:
    secrets = {name: {"Ref": parameter(name)} for name in record.secrets}
    code: dict[str, Any]
    if record.package == "zip":
        code = {
            "CodeUri": record.function.file,
            "Runtime": record.runtime,
            "Handler": "bootstrap",
            **({"Layers": [{"Ref": name} for name in layers]} if layers else {}),
        }
    else:
        code = {"PackageType": "Image", "ImageUri": {"Ref": "ImageUri"}}
    properties: dict[str, Any] = {
        **code,
        "Architectures": [record.arch],
        "MemorySize": record.memory,
        "Timeout": record.timeout,
        "AutoPublishAlias": "live",
        "Environment": {"Variables": {**record.environment, **secrets}},
    }
    if record.url != "none":
        properties["FunctionUrlConfig"] = {"AuthType": _auth(record), "InvokeMode": _invoke_mode(record)}
    if record.snapstart:
        properties["SnapStart"] = {"ApplyOn": "PublishedVersions"}
    return {"Type": "AWS::Serverless::Function", "Properties": properties}


def _sam_layer(record: Record, layer: Zip) -> dict[str, Any]:
    return {
        "Type": "AWS::Serverless::LayerVersion",
        "Properties": {
            "LayerName": f"{record.name}-{_stem(layer)}",
            "ContentUri": layer.file,
            "CompatibleArchitectures": [record.arch],
            "CompatibleRuntimes": [record.runtime],
            "RetentionPolicy": "Delete",
        },
    }


def _sam_permissions(record: Record) -> dict[str, Any]:
    """SAM itself permits ``lambda:InvokeFunctionUrl`` for an open URL; since October 2025 a second action is needed."""
    if record.url != "public":
        return {}
    return {
        "FunctionUrlInvoke": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "Function.Alias"},
                "Action": "lambda:InvokeFunction",
                "Principal": "*",
                "InvokedViaFunctionUrl": True,
            },
        }
    }


def _terraform(record: Record) -> dict[str, Any]:
    variables: dict[str, Any] = {"region": {"type": "string"}}
    for name in record.secrets:
        variables[name.lower()] = {"type": "string", "sensitive": True, "description": f"Secret {name} of the spec"}
    if record.package == "image":
        variables["image_uri"] = {"type": "string", "description": f"The image in ECR, like {_PLACEHOLDER}"}
    resources: dict[str, Any] = {
        "aws_iam_role": {"function": {"name_prefix": f"{record.name[:37]}-", "assume_role_policy": json.dumps(_TRUST)}},
        "aws_iam_role_policy_attachment": {
            "logs": {
                "role": "${aws_iam_role.function.name}",
                "policy_arn": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
            }
        },
        "aws_lambda_function": {"function": _terraform_function(record)},
        "aws_lambda_alias": {
            "live": {
                "name": "live",
                "function_name": "${aws_lambda_function.function.function_name}",
                "function_version": "${aws_lambda_function.function.version}",
            }
        },
    }
    if record.layers:
        resources["aws_lambda_layer_version"] = {
            _stem(layer): _terraform_layer(record, layer) for layer in record.layers
        }
    outputs: dict[str, Any] = {"function_arn": {"value": "${aws_lambda_alias.live.arn}"}}
    if record.url != "none":
        resources["aws_lambda_function_url"] = {
            "live": {
                "function_name": "${aws_lambda_function.function.function_name}",
                "qualifier": "${aws_lambda_alias.live.name}",
                "authorization_type": _auth(record),
                "invoke_mode": _invoke_mode(record),
            }
        }
        outputs["url"] = {"value": "${aws_lambda_function_url.live.function_url}"}
    if record.url == "public":
        resources["aws_lambda_permission"] = _terraform_permissions()
    return {
        "terraform": {
            "required_version": ">= 1.5",
            "required_providers": {"aws": {"source": "hashicorp/aws", "version": _provider(record)}},
        },
        "provider": {"aws": {"region": "${var.region}"}},
        "variable": variables,
        "resource": resources,
        "output": outputs,
    }


_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def _terraform_function(record: Record) -> dict[str, Any]:
    secrets = {name: f"${{var.{name.lower()}}}" for name in record.secrets}
    if record.package == "zip":
        code: dict[str, Any] = {
            **_terraform_zip(record.function, "source_code_hash"),
            "runtime": record.runtime,
            "handler": "bootstrap",
        }
        if record.layers:
            code["layers"] = [f"${{aws_lambda_layer_version.{_stem(layer)}.arn}}" for layer in record.layers]
    else:
        code = {"package_type": "Image", "image_uri": "${var.image_uri}"}
    return {
        "function_name": record.name,
        "role": "${aws_iam_role.function.arn}",
        **code,
        "architectures": [record.arch],
        "memory_size": record.memory,
        "timeout": record.timeout,
        "publish": True,
        "environment": {"variables": {**record.environment, **secrets}},
        **({"snap_start": {"apply_on": "PublishedVersions"}} if record.snapstart else {}),
    }


def _terraform_layer(record: Record, layer: Zip) -> dict[str, Any]:
    return {
        "layer_name": f"{record.name}-{_stem(layer)}",
        **_terraform_zip(layer, "source_code_hash"),
        "compatible_architectures": [record.arch],
        "compatible_runtimes": [record.runtime],
    }


def _terraform_zip(found: Zip, hashed: str) -> dict[str, Any]:
    path = f"${{path.module}}/{found.file}"
    return {"filename": path, hashed: f'${{filebase64sha256("{path}")}}'}


def _provider(record: Record) -> str:
    """The provider's version; only newer ones know the second permission of an open URL."""
    return ">= 6.28" if record.url == "public" else ">= 5.100"


def _terraform_permissions() -> dict[str, Any]:
    common = {
        "function_name": "${aws_lambda_function.function.function_name}",
        "qualifier": "${aws_lambda_alias.live.name}",
        "principal": "*",
    }
    return {
        "url": {**common, "action": "lambda:InvokeFunctionUrl", "function_url_auth_type": "NONE"},
        "invoke": {**common, "action": "lambda:InvokeFunction", "invoked_via_function_url": True},
    }


def _auth(record: Record) -> str:
    return "NONE" if record.url == "public" else "AWS_IAM"


def _invoke_mode(record: Record) -> str:
    return "RESPONSE_STREAM" if record.stream else "BUFFERED"


def _stem(layer: Zip) -> str:
    return layer.file.removeprefix("layer-").removesuffix(".zip")


def _title(layer: Zip) -> str:
    return f"{_stem(layer).capitalize()}Layer"
