"""`lsbuild import`: golden specs and reports, nothing dropped, nothing secret copied, unkind files.

``LSBUILD_WRITE_GOLDEN=1 pytest tests/builder/test_importing.py`` writes the golden files anew; look at the difference.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild import cli, importing
from lsbuild.errors import SpecError, StoreError
from lsbuild.importing import check, draft, env, models, names, report, rest, shields, stack, stores
from lsbuild.importing.work import Work
from lsbuild.spec.load import load
from lsbuild.spec.marks import scalar

FOLDER = Path(__file__).parent / "importing"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if not path.name.endswith(".spec.yaml"))
SECRETS = ("sk-literal-key-in-the-file-1", "literal-header-value-2", "hunter", "literal-default-key-4")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["import", *(str(word) for word in words)])


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as raised:
        importing.convert(written(folder, text))
    return [str(each).rpartition("run.yaml:")[2] for each in raised.value.problems]


@pytest.mark.parametrize("name", FILES)
def test_golden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    imported = importing.convert(Path(name))
    stem = name.removesuffix(".yaml")
    for path, text in (
        (FOLDER / f"{stem}.spec.yaml", imported.text),
        (FOLDER / f"{stem}.report.txt", report.to_text(imported.findings) + "\n"),
    ):
        if os.environ.get("LSBUILD_WRITE_GOLDEN"):
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", FILES)
def test_the_spec_loads_and_so_does_what_is_commented_out(name: str, tmp_path: Path) -> None:
    imported = importing.convert(FOLDER / name)
    path = tmp_path / "spec.yaml"
    path.write_text(imported.text)
    loaded = load(path, target="host", environ={})
    assert loaded.spec.models or loaded.spec.tools
    path.write_text(uncommented(imported.text))
    everything = load(path, target="host", environ={})
    assert len(everything.spec.models) >= len(loaded.spec.models)
    assert set(loaded.spec.vector_stores) <= set(everything.spec.vector_stores)


def uncommented(text: str) -> str:
    """Every entry of a spec that is written as a comment, switched on."""
    text = re.sub(r"^(\w+): \{\}  # all are comments below$", r"\1:", text, flags=re.MULTILINE)
    return re.sub(r"^  # ((?:[a-z][a-z0-9_.-]*:$)|(?: +[a-z_]+:.*))$", r"  \1", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_every_provider_and_resource_has_one_line_with_its_place(name: str) -> None:
    read = stack.read(FOLDER / name)
    findings = importing.convert(FOLDER / name).findings
    listed = {(finding.where, finding.what.split()[0]) for finding in findings}
    for provider in read.providers:
        assert (provider.where, "provider") in listed, provider
    places = {finding.where for finding in findings}
    assert {resource.where for resource in read.resources} <= places
    for finding in findings:
        assert re.search(rf"{re.escape(name)}:\d+:\d+$", finding.where)
        assert finding.status == "mapped" or finding.note


def test_a_secret_in_clear_text_is_nowhere_and_said_so(tmp_path: Path) -> None:
    output = tmp_path / "spec.yaml"
    result = run(FOLDER / "pgvector.yaml", "-o", output)
    asked = run(FOLDER / "pgvector.yaml", "--json")
    assert result.exit_code == asked.exit_code == 0
    for secret in SECRETS:
        assert secret in (FOLDER / "pgvector.yaml").read_text()
        assert secret not in result.output + result.stderr + asked.output + output.read_text()
    assert result.output.count("clear text") >= 4
    spec = load(output, environ={}).spec
    assert spec.models["big"].config["api_key"] == {"secret": "VLLM_API_TOKEN"}
    assert spec.models["other"].config["base_url"] == "https://together.example/v1"
    assert spec.vector_stores["policies"].config["password"] == {"secret": "PGVECTOR_PASSWORD"}
    assert spec.vector_stores["policies"].config["port"] == 5432


def test_no_secret_is_copied_wherever_it_stands(tmp_path: Path) -> None:
    source = FOLDER / "secrets.yaml"
    output = tmp_path / "spec.yaml"
    said = run(source, "-o", output).output + run(source, "--json").output + output.read_text()
    assert source.read_text().count("TOPSECRET") == 11
    assert "TOPSECRET" not in said
    assert "1234567890" not in said
    served = load(output, environ={}).spec.models
    assert served["a"].config["api_key"] == {"secret": "X_API_KEY"}
    assert served["b"].config["api_key"] == {"secret": "Y_API_KEY"}


@pytest.mark.parametrize(
    ("name", "code", "what"),
    [
        ("minimal", 11, "wheels:"),  # all but the wheels is there: sources, settings and target are accepted
        ("ollama", 3, "hf://sentence-transformers/all-MiniLM-L6-v2@PIN-A-COMMIT: does not name a commit"),
    ],
)
def test_a_plan_asks_for_nothing_but_what_is_marked(
    name: str, code: int, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSBUILD_CACHE", str(tmp_path / "cache"))
    spec = tmp_path / "spec.yaml"
    assert run(FOLDER / f"{name}.yaml", "--output", spec).exit_code == 0
    planned = CliRunner().invoke(cli.main, ["plan", "--offline", str(spec)])
    assert planned.exit_code == code, planned.output
    assert what in planned.output
    assert spec.read_text().count("PIN-A-COMMIT") == what.count("PIN-A-COMMIT") * 3


def test_what_stands_on_the_screen_is_the_spec_and_the_report_beside_it() -> None:
    result = run(FOLDER / "minimal.yaml")
    assert result.exit_code == 0
    assert result.stdout == importing.convert(FOLDER / "minimal.yaml").text
    assert "mapped" in result.stderr
    body = json.loads(run(FOLDER / "minimal.yaml", "--json").stdout)
    assert body["ok"] is True and body["output"] is None
    assert body["counts"]["mapped"] == len(body["report"])


def test_an_edited_spec_is_never_written_over(tmp_path: Path) -> None:
    output = tmp_path / "spec.yaml"
    output.write_text("mine")
    result = run(FOLDER / "minimal.yaml", "-o", output)
    assert result.exit_code == StoreError.exit_code
    assert output.read_text() == "mine"
    assert run(FOLDER / "minimal.yaml", "-o", tmp_path / "new" / "spec.yaml").exit_code == 0
    assert run(FOLDER / "minimal.yaml", "-o", output / "spec.yaml").exit_code == StoreError.exit_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty"),
        ("- a\n", "1:1: expected a run.yaml"),
        ("just words\n", "1:1: expected a run.yaml"),
        ("a: [1\n", "expected ',' or ']'"),
        ("version: 2\n", "there is no `providers`"),
        ("provider: {}\n", "Did you mean 'providers' where it says 'provider'"),
        ("version: 2\ndistribution_spec: {providers: {}}\n", "this is a build.yaml"),
        ("version: 1\nmodels: {a: {type: llm}}\n", "this is a spec already"),
        ("version: 3\nproviders: {}\n", "1:10: version the number 3 is not known"),
        ("providers: [a]\n", "1:12: expected a map, found a list"),
        ("providers: {inference: 5}\n", "1:24: expected a list, found the number 5"),
        ("providers: {inference: [5]}\n", "1:25: expected a map"),
        ("providers: {inference: [{provider_id: a, provider_typ: b}]}\n", "Did you mean 'provider_type'"),
        ("providers: {inference: [{provider_id: [], provider_type: b}]}\n", "missing text 'provider_id'"),
        ("providers: {inference: [{provider_type: b, config: [1]}]}\n", "1:52: expected a map, found a list"),
        ("providers: {}\nregistered_resources: {models: {a: b}}\n", "2:32: expected a list, found a map"),
        ("providers: {}\nmodels: [a]\n", "2:10: expected a map, found 'a'"),
        ("providers: {}\nproviders: {}\n", "2:1: the key 'providers' is given twice"),
        ("providers: !!python/object:os.system {}\n", "the tag"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nproviders: {c: *b}\n", "expected a map"),
    ],
)
def test_files_that_are_none_are_told_so_with_a_place(text: str, expected: str, tmp_path: Path) -> None:
    said = problems(tmp_path, text)
    assert any(expected in each for each in said), said
    assert run(tmp_path / "run.yaml").exit_code == 2


def test_bombs_and_giants_are_refused(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert any("10,000" in each for each in problems(tmp_path, "\n".join(rows) + "\nproviders: {}\n"))
    assert "larger than" in str(problems(tmp_path, f"providers: {{}}\n# {'x' * (1 << 20)}\n"))
    (tmp_path / "run.yaml").write_bytes(b"providers: \xff\n")
    assert run(tmp_path / "run.yaml").exit_code == 2
    assert run(tmp_path / "none.yaml").exit_code == 2
    assert run(tmp_path).exit_code == 2


def test_missing_sections_and_odd_values_still_give_a_spec(tmp_path: Path) -> None:
    text = """
    version: 2
    distro_name: 4 ${env.X:+Ö}
    providers:
      inference:
      - {provider_id: "a b", provider_type: "remote::openai", config: {url: "no url", headers: {"bad header": x}}}
      - {provider_id: "a b", provider_type: "remote::ollama"}
      - {provider_type: "remote::vllm", config: {api_key: none, base_url: "http://[::1"}}
      vector_io:
      - {provider_id: v, provider_type: "inline::faiss"}
      nonsense: [{provider_id: n, provider_type: n}]
      files:
    models:
    - {model_id: "Ünï/../\\u2028x", provider_id: "a b"}
    - {model_id: "", provider_id: "a b"}
    - {provider_id: "a b"}
    - {model_id: m, provider_id: vlm}
    - {model_id: m, provider_id: vllm, model_type: image}
    - {model_id: r, provider_id: vllm, model_type: rerank}
    vector_dbs:
    - {vector_db_id: d, provider_id: w}
    - {provider_id: v}
    - {vector_db_id: d, provider_id: v, embedding_model: nowhere}
    - {vector_db_id: d, provider_id: v}
    server: {port: many, host: "a b"}
    vector_stores:
    """
    imported = importing.convert(written(tmp_path, text.replace("\n    ", "\n").replace("vector_stores:\n", "")))
    said = report.to_text(imported.findings)
    assert "Did you mean 'vllm'?" in said
    assert "the id is used in line" in said and "the id is used already" in said
    assert "no models of type 'image'" in said
    assert "it has no model_id" in said and "it has no id" in said
    assert "commented out, it is not accepted" in said  # the header's name
    assert "the API 'nonsense' is not known" in said
    assert "unknown key" not in said
    path = tmp_path / "spec.yaml"
    path.write_text(imported.text, encoding="utf-8")
    assert set(load(path, environ={}).spec.vector_stores) == {"d"}


def test_shields_become_rules_as_far_as_rules_can(tmp_path: Path) -> None:
    text = """
providers:
  safety:
  - {provider_id: guard, provider_type: "inline::llama-guard"}
  - {provider_id: guard, provider_type: "inline::prompt-guard"}
  - {provider_id: prompts, provider_type: "inline::prompt-guard"}
  - {provider_id: cloud, provider_type: "remote::bedrock"}
  - {provider_id: idle, provider_type: "inline::prompt-guard"}
registered_resources:
  shields:
  - {shield_id: meta-llama/Llama-Guard-3-8B, provider_id: guard}
  - {shield_id: meta-llama/Llama-Guard-3-8B, provider_id: guard}
  - {shield_id: injection, provider_id: "${env.PROMPTS:+prompts}"}
  - {shield_id: theirs, provider_id: cloud}
  - {shield_id: lost, provider_id: nobody}
  - {provider_id: guard}
"""
    imported = importing.convert(written(tmp_path, text))
    path = tmp_path / "spec.yaml"
    path.write_text(imported.text, encoding="utf-8")
    assert set(load(path, environ={}).spec.shields) == {"meta-llama-llama-guard-3-8b"}
    path.write_text(uncommented(imported.text), encoding="utf-8")
    both = load(path, environ={}).spec.shields
    assert both["injection"].config == {"packs": ["prompt-injection"]}
    assert [(each.what.partition(" (")[0], each.status) for each in imported.findings] == [
        ("shield meta-llama/Llama-Guard-3-8B", "attention"),
        ("shield meta-llama/Llama-Guard-3-8B", "attention"),
        ("shield injection", "attention"),
        ("shield theirs", "none"),
        ("shield lost", "none"),
        ("shield", "none"),
        ("provider safety/guard", "mapped"),
        ("provider safety/guard", "attention"),
        ("provider safety/prompts", "mapped"),
        ("provider safety/cloud", "none"),
        ("provider safety/idle", "none"),
    ]


def test_shields_whose_models_are_named_become_judges_and_classifiers(tmp_path: Path) -> None:
    text = """
providers:
  inference:
  - {provider_id: vllm, provider_type: "remote::vllm", config: {base_url: "http://127.0.0.1:9/v1"}}
  safety:
  - {provider_id: guard, provider_type: "inline::llama-guard", config: {excluded_categories: [S5, S13]}}
  - {provider_id: prompts, provider_type: "inline::prompt-guard"}
registered_resources:
  models:
  - {model_id: meta-llama/Llama-Guard-3-8B, provider_id: vllm}
  shields:
  - {shield_id: content, provider_id: guard, provider_shield_id: vllm/meta-llama/Llama-Guard-3-8B}
  - {shield_id: other, provider_id: guard, provider_shield_id: meta-llama/Llama-Guard-4-12B}
  - {shield_id: injection, provider_id: prompts, provider_shield_id: meta-llama/Llama-Prompt-Guard-2-86M}
  - {shield_id: older, provider_id: prompts, provider_shield_id: meta-llama/Prompt-Guard-86M}
"""
    imported = importing.convert(written(tmp_path, text))
    path = tmp_path / "spec.yaml"
    path.write_text(imported.text, encoding="utf-8")
    found = load(path, environ={}).spec.shields
    assert (found["content"].provider, found["content"].model) == ("inline::llm-judge", "meta-llama-llama-guard-3-8b")
    assert found["content"].config["categories"] == [f"S{n}" for n in range(1, 13) if n != 5]
    assert found["other"].config == {"packs": ["violence", "self-harm", "profanity"]}
    assert found["injection"].source == "hf://meta-llama/Llama-Prompt-Guard-2-86M@PIN-A-COMMIT"
    assert found["injection"].config == {
        "where": ["input", "retrieved"],
        "labels": {"LABEL_1": {"category": "prompt-injection"}},
    }
    assert found["older"].config == {"where": ["input", "retrieved"]}
    status = {each.what: (each.status, each.note) for each in imported.findings}
    assert status["shield content"][0] == "mapped"
    assert status["shield other"] == ("attention", shields._WEAKER)
    assert "pin the source" in status["shield injection"][1]


def test_names_of_old_releases_lose_their_prefix(tmp_path: Path) -> None:
    text = """
providers:
  inference:
  - {provider_id: openai, provider_type: "remote::openai", config: {api_key: "${env.OPENAI_API_KEY:}"}}
  - {provider_id: groq, provider_type: "remote::groq", config: {url: "https://api.groq.com"}}
  - {provider_id: gateway, provider_type: "remote::openai", config: {base_url: "http://gateway.example/v1"}}
models:
- {model_id: openai/gpt-4o, provider_id: openai}
- {model_id: groq/llama3-8b-8192, provider_id: groq}
- {model_id: groq/compound, provider_id: groq}
- {model_id: openai/gpt-oss-20b, provider_id: gateway}
"""
    imported = importing.convert(written(tmp_path, text))
    path = tmp_path / "spec.yaml"
    path.write_text(imported.text, encoding="utf-8")
    served = [model.config["model"] for model in load(path, environ={}).spec.models.values()]
    assert served == ["gpt-4o", "llama3-8b-8192", "groq/compound", "openai/gpt-oss-20b"]


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    said = report.to_text(importing.convert(written(tmp_path, "providers: {}\nshield: []\n")).findings)
    assert "unknown key; left out. Did you mean 'shields'?" in said


@pytest.mark.parametrize(
    ("there", "repository"),
    [
        ("all-minilm:latest", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("nomic-embed-text", "nomic-ai/nomic-embed-text-v1.5"),
        ("nomic-ai/nomic-embed-text-v1.5", "nomic-ai/nomic-embed-text-v1.5"),
        ("sentence-transformers/nomic-ai/nomic-embed-text-v1.5", "nomic-ai/nomic-embed-text-v1.5"),
        ("paraphrase-MiniLM", "sentence-transformers/paraphrase-MiniLM"),
    ],
)
def test_where_weights_of_a_known_id_are(there: str, repository: str) -> None:
    assert models.repository_of(there) == repository


@pytest.mark.parametrize(
    ("written_there", "here"),
    [
        ("${env.A:=http://x}", "${env.A:=http://x}"),
        ("${env.A:http://x}", "${env.A:=http://x}"),
        ("${env.A:=}", "${env.A}"),
        ("${env.A:}", "${env.A}"),
        ("${env.A}/v1", "${env.A}/v1"),
        ("${env.A:+on}", "on"),
        ("${env.A+on}", "on"),
        ("a$b ${x}", "a$$b $${x}"),
    ],
)
def test_substitutions_are_written_as_a_spec_writes_them(written_there: str, here: str) -> None:
    assert env.modern(written_there) == here


def test_names_are_free_and_valid() -> None:
    taken: set[str] = set()
    for text in ["meta-llama/Llama", "meta-llama/llama", "META-LLAMA/LLAMA", "x" * 99, "x" * 98, "3b", "", "模型"]:
        name = names.name_of(text, taken)
        assert re.fullmatch(r"[a-z][a-z0-9_.-]{0,62}", name)
        assert name not in taken
        taken.add(name)
    assert names.variable_of("my vllm", "api_key") == "MY_VLLM_API_KEY"
    assert names.variable_of("3", "k") == "X_3_K"


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_written_as_a_yaml_scalar_that_is_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    shown = draft.written(text)
    if not shown.startswith('"'):
        assert scalar(shown) == text == shown
    else:
        from lsbuild.spec import marks

        faults: list[object] = []
        assert marks.parse(f"a: {shown}  # b\n", "t", faults).map["a"].value == text  # type: ignore[arg-type]
        assert not faults


_WORD = st.sampled_from(
    [
        "a",
        "ollama",
        "A/b",
        "${env.X:=d}",
        "${env.X}",
        "${env.X:+y}",
        "${params.z}",
        "$",
        "__disabled__",
        "",
        "x: y",
        "#",
        "1",
    ]
)


@given(
    providers=st.lists(
        st.tuples(_WORD, st.sampled_from(["remote::ollama", "remote::vllm", "inline::transformers", "x"]), _WORD),
        max_size=4,
    ),
    wanted=st.lists(st.tuples(_WORD, _WORD, st.sampled_from(["llm", "embedding", "rerank", "z"])), max_size=5),
    dbs=st.lists(st.tuples(_WORD, _WORD, _WORD), max_size=3),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_ids_are_the_result_loads(
    tmp_path: Path,
    providers: list[tuple[str, str, str]],
    wanted: list[tuple[str, str, str]],
    dbs: list[tuple[str, str, str]],
) -> None:
    body = {
        "providers": {
            "inference": [
                {"provider_id": name, "provider_type": kind, "config": {"url": url, "api_key": url}}
                for name, kind, url in providers
            ],
            "vector_io": [
                {"provider_id": "a", "provider_type": "inline::faiss"},
                {
                    "provider_id": "ollama",
                    "provider_type": "remote::pgvector",
                    "config": {"host": "h", "password": "p"},
                },
            ],
        },
        "models": [{"model_id": name, "provider_id": owner, "model_type": kind} for name, owner, kind in wanted],
        "vector_dbs": [
            {"vector_db_id": name, "provider_id": owner, "embedding_model": model} for name, owner, model in dbs
        ],
    }
    source = written(tmp_path, json.dumps(body))
    imported = importing.convert(source)
    spec = tmp_path / "spec.yaml"
    spec.write_text(imported.text, encoding="utf-8")
    load(spec, environ={})
    places = {finding.where for finding in imported.findings}
    read = stack.read(source)
    assert {each.where for each in read.providers} | {each.where for each in read.resources} <= places


def test_what_is_not_accepted_is_switched_off_with_what_needs_it() -> None:
    work = Work(stack.read(FOLDER / "ollama.yaml"))
    for part in (models, stores, shields, rest):
        part.add(work)
    drafted = work.draft()
    broken = [
        replace(entry, fields={**entry.fields, "quantize": draft.Field("int5")}) if "minilm" in entry.name else entry
        for entry in drafted.entries
    ]
    accepted, faults = check.accepted(replace(drafted, entries=tuple(broken)), "run.yaml")
    off = {entry.name for entry in accepted.entries if not entry.active}
    assert off == {"sentence-transformers-all-minilm-l6-v2"} | {
        entry.name for entry in drafted.entries if entry.section == "vector_stores"
    }
    assert any("int5" in each.message for each in faults)
