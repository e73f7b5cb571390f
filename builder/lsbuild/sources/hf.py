"""``hf://ORG/NAME@COMMIT``: a model repository at one commit, by huggingface_hub; only what a compiler needs of it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lsbuild.api import Source
from lsbuild.errors import LsbuildError, SourceError
from lsbuild.sources.base import FetchContext

_FORM = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_WANTED = (
    "*.json",
    "*.jinja",
    "*.model",
    "LICENSE*",
    "README.md",
    "merges.txt",
    "vocab.txt",
)
_WEIGHTS = ("*.safetensors",)
_GRAPHS = ("model.onnx", "model.onnx_data*", "onnx/model.onnx", "onnx/model.onnx_data*")
_ELSEWHERE = ("original/*", "onnx/*", "openvino/*", "coreml/*", "runs/*", "*.bin.index.json", "checkpoint*/*")


def fetch(rest: str, context: FetchContext) -> Source:
    """The files of the commit that matter: configuration, tokenizer, licence, and safetensors (else ONNX)."""
    match = _FORM.fullmatch(rest)
    if match is None:
        raise SourceError("does not name a commit", where=context.uri, hint=_how_to_pin(rest, context))
    if context.pinned is not None and all(context.blob(file.sha256) for file in context.pinned):
        files = context.tree({file.path: file.sha256 for file in context.pinned})
        return Source(context.uri, files, match["revision"])
    if context.offline:
        raise context.missing("this model is")
    contents = _download(match["repo"], match["revision"], context)
    return Source(context.uri, context.tree(contents), match["revision"])


def select(names: Iterable[str]) -> list[str]:
    """Which files of a repository to fetch: no second copy of the weights in another format."""
    names = sorted(names)
    weights = [name for name in names if _matches(name, _WEIGHTS) and not _matches(name, _ELSEWHERE)]
    weights = weights or [name for name in names if _matches(name, _GRAPHS)]
    rest = [name for name in names if _matches(name, _WANTED) and not _matches(name, _ELSEWHERE)]
    return sorted({*weights, *rest})


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch(name, glob) for glob in globs)


def _download(repo: str, revision: str, context: FetchContext) -> dict[str, str]:
    pinned = {file.path: file.sha256 for file in context.pinned or ()}
    context.progress(0, 0, "listing")
    contents: dict[str, str] = {}
    with _explained(context), tempfile.TemporaryDirectory(dir=_scratch(context)) as folder:
        names = select(_api().list_repo_files(repo, revision=revision))
        if not names:
            raise SourceError("the repository holds no file that can be compiled", where=context.uri)
        for done, name in enumerate(names):
            context.progress(done, len(names), name)
            known = context.blob(pinned[name]) if name in pinned else None
            if known is None:
                path = _api().hf_hub_download(repo, name, revision=revision, local_dir=folder)
                known = context.add(Path(path), pinned.get(name))
                Path(path).unlink()
            contents[name] = known.name
    return contents


def _api() -> Any:
    from huggingface_hub import HfApi  # cold: a second to import
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # progress is the monitor's
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="lsbuild")


def _scratch(context: FetchContext) -> Path:
    place = context.cache / "blobs"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def _explained(context: FetchContext) -> Iterator[None]:
    """Turn what the hub's client raises into a SourceError with the way out."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except LsbuildError:
        raise
    except GatedRepoError as error:
        hint = "Accept its terms on the model's page, then set HF_TOKEN to a token of that account."
        raise SourceError("the model is gated", where=context.uri, hint=hint) from error
    except RepositoryNotFoundError as error:
        hint = "Check ORG/NAME; for a private model set HF_TOKEN."
        raise SourceError("there is no such model, or it is private", where=context.uri, hint=hint) from error
    except RevisionNotFoundError as error:
        raise SourceError(
            "the model has no such commit", where=context.uri, hint="Check the 40 digits after @."
        ) from error
    except Exception as error:  # its HTTP library, and so the class of a refused connection, differs by version
        first = str(error).strip().partition("\n")[0]
        hint = "Check the network and HF_ENDPOINT; --offline uses what is cached."
        raise SourceError(
            f"cannot be fetched: {first or type(error).__name__}", where=context.uri, hint=hint
        ) from error


def _how_to_pin(rest: str, context: FetchContext) -> str:
    """The instruction, with the very commit when the hub answers."""
    repo, _, moving = rest.partition("@")
    form = "Write hf://ORG/NAME@COMMIT with the 40 hex digits of a commit: a branch moves, a build must not."
    if context.offline or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        return form
    try:
        commit = _api().model_info(repo, revision=moving or None, timeout=5).sha
    except Exception:
        return form
    return f"{form} {moving or 'main'} is hf://{repo}@{commit} now."
