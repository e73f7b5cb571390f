"""The schema for editors and the reference in docs/spec.md: both complete, both true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from lsbuild.spec.load import load
from lsbuild.spec.model import Spec
from lsbuild.spec.schema import keys, schema, table

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")


def accepts(value: Any, made: dict[str, Any] | None = None) -> bool:
    return bool(jsonschema.Draft202012Validator(made or schema()).is_valid(value))


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    for definition in (made, *made["$defs"].values()):
        assert definition["additionalProperties"] is False
        for name, value in definition["properties"].items():
            assert value.get("description"), name


@pytest.mark.parametrize("spec", sorted((ROOT / "examples").glob("*/*.yaml")), ids=lambda path: path.parent.name)
def test_the_schema_accepts_every_example(spec: Path) -> None:
    assert accepts(YAML(typ="safe", pure=True).load(spec.read_text()))


def test_the_schema_agrees_with_the_model() -> None:
    model = {"type": "llm", "source": "x"}
    assert accepts({"models": {"m": model}, "x-anything": 1})
    assert accepts({"models": {"m": {**model, "context": "${env.CTX:=512}"}}})
    assert not accepts({"models": {"m": {**model, "context": "512"}}})
    assert not accepts({"models": {"M": model}})
    assert not accepts({"modles": {}})
    assert accepts({"server": {"limits": {"body": "1MiB"}}})
    assert not accepts({"server": {"limits": {"body": 5}}})


def test_options_of_targets_can_be_added() -> None:
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
        user: int = 65532
        """Who runs it."""

    made = schema({"container": Options})
    assert accepts({"targets": {"container": {"user": 1, "server": {"port": 1}}}}, made)
    assert not accepts({"targets": {"container": {"user": "root"}}}, made)
    assert not accepts({"targets": {"elsewhere": {}}}, made)


def test_every_key_has_a_meaning() -> None:
    assert len(keys()) >= 40
    assert [key.path for key in keys() if len(key.meaning) < 10] == []


@pytest.mark.parametrize("section", Spec.model_fields)
def test_the_reference_holds_every_section_word_for_word(section: str) -> None:
    assert table(section) in DOCS, f"docs/spec.md must hold:\n{table(section)}"


def test_every_example_in_the_reference_loads(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert len(examples) >= 9
    common = {
        "models": {"chat": {"type": "llm"}, "embed": {"type": "embedding"}},
        "vector_stores": {"docs": {"embedding": "embed", "sources": ["a"]}},
    }
    for example in examples:
        spec = tmp_path / "spec.yaml"
        written = YAML(typ="safe", pure=True).load(example)
        missing = {key: value for key, value in common.items() if key not in written}
        if "models" in written and "embed" not in written["models"]:
            missing.pop("vector_stores", None)
        with spec.open("w") as stream:
            stream.write(example)
            if missing:
                YAML(pure=True).dump(missing, stream)
        load(spec, environ={}, target="container")
