"""Loading a spec: what a good one becomes, and what every bad one is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild.errors import SpecError
from lsbuild.spec.load import Loaded, Origin, explain, load, resolved

GOOD = """\
version: 1
name: demo
params: {docs: manuals, size: 64}
models:
  chat: {type: llm, source: builtin://tiny-agent, quantize: int4, context: 512}
  embed: {type: embedding, source: ./models/embed}
vector_stores:
  docs:
    embedding: embed
    sources: ["${params.docs}/**/*.md"]
    chunk: {tokens: "${params.size}", overlap: 0}
agents:
  helper: {model: chat, vector_stores: [docs], limits: {wall: 800ms}}
server: {port: "${env.PORT:=8321}", limits: {body: 2MiB}}
targets:
  host: {server: {host: 0.0.0.0}, models: {chat: {quantize: int8, context: null}}}
  container: {arch: [amd64, arm64], user: 65532}
"""


def read(
    tmp_path: Path,
    text: str | bytes = GOOD,
    target: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: tuple[str, ...] = (),
) -> Loaded:
    spec = tmp_path / "spec.yaml"
    spec.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(spec, target=target, environ=environ or {}, overrides=overrides)


def faults(tmp_path: Path, text: str | bytes, **rest: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text, **rest)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_a_good_spec_becomes_frozen_values(tmp_path: Path) -> None:
    loaded = read(tmp_path)
    spec = loaded.spec
    assert spec.name == "demo"
    assert spec.models["chat"].quantize == "int4"
    assert [entry.uri for entry in spec.vector_stores["docs"].sources] == ["manuals/**/*.md"]
    assert spec.vector_stores["docs"].chunk.tokens == 64
    assert spec.agents["helper"].limits.wall == 0.8
    assert spec.server.port == 8321
    assert spec.server.limits.body == 2 << 20
    assert loaded.path == tmp_path / "spec.yaml"
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]


def test_a_target_is_merged_deep_and_null_removes(tmp_path: Path) -> None:
    loaded = read(tmp_path, target="host")
    assert loaded.spec.server.host == "0.0.0.0"
    assert loaded.spec.server.port == 8321
    assert loaded.spec.models["chat"].quantize == "int8"
    assert loaded.spec.models["chat"].context is None
    assert loaded.target_options == {}


def test_what_is_not_a_spec_key_is_the_targets_own(tmp_path: Path) -> None:
    loaded = read(tmp_path, target="container")
    assert loaded.target_options == {"arch": ["amd64", "arm64"], "user": 65532}
    assert loaded.where("targets", "container", "user") == f"{tmp_path}/spec.yaml:17:43"


def test_lists_of_maps_merge_by_id_and_other_lists_are_replaced(tmp_path: Path) -> None:
    text = """\
models:
  m:
    type: llm
    config: {rows: [{id: a, x: 1, y: 1}, {id: b, x: 2}], plain: [1, 2]}
targets:
  host: {models: {m: {config: {rows: [{id: a, x: 9}, {id: c}], plain: [3]}}}}
"""
    config = read(tmp_path, text, target="host").spec.models["m"].config
    assert config == {"rows": [{"id": "a", "x": 9, "y": 1}, {"id": "b", "x": 2}, {"id": "c"}], "plain": [3]}


def test_overrides_win_over_file_and_target(tmp_path: Path) -> None:
    overrides = (
        "models.chat.quantize=none",
        "server.limits.body=3MiB",
        "vector_stores.docs.sources.0=x.md",
        "params.size=32",
        "targets.host.port_range=[1, 2]",
        "models.chat.context=null",
    )
    loaded = read(tmp_path, target="host", overrides=overrides)
    assert loaded.spec.models["chat"].quantize == "none"
    assert loaded.spec.server.limits.body == 3 << 20
    assert [entry.uri for entry in loaded.spec.vector_stores["docs"].sources] == ["x.md"]
    assert loaded.spec.vector_stores["docs"].chunk.tokens == 32
    assert loaded.target_options == {"port_range": [1, 2]}
    assert loaded.origins["models", "chat", "quantize"] == Origin("--set models.chat.quantize", "override")


def test_an_override_finds_names_with_dots(tmp_path: Path) -> None:
    text = "models:\n  qwen2.5: {type: llm, context: 512}\n"
    loaded = read(tmp_path, text, overrides=("models.qwen2.5.context=1024",))
    assert loaded.spec.models["qwen2.5"].context == 1024


def test_whole_values_keep_their_yaml_type_and_texts_stay_texts(tmp_path: Path) -> None:
    text = """\
models:
  a: {type: llm, context: "${env.CTX}", source: "${env.NUMBER}"}
agents:
  b: {model: a, instructions: "${env.NUMBER}"}
  c: {model: a, instructions: "costs $$5, not $${env.X}, port ${env.NUMBER}"}
"""
    loaded = read(tmp_path, text, environ={"CTX": "2048", "NUMBER": "0123"})
    assert loaded.spec.models["a"].context == 2048
    assert loaded.spec.models["a"].source == "0123"
    assert loaded.spec.agents["b"].instructions == "0123"
    assert loaded.spec.agents["c"].instructions == "costs $5, not ${env.X}, port 0123"
    assert loaded.origins["models", "a", "context"].kind == "env"


def test_what_the_environment_holds_is_never_read_as_structure(tmp_path: Path) -> None:
    text = 'agents: {}\nmodels: {m: {type: llm, source: "${env.EVIL}"}}\n'
    evil = "x}, z: {type: llm}, ${env.SECRET} $$"
    loaded = read(tmp_path, text, environ={"EVIL": evil, "SECRET": "s"})
    assert loaded.spec.models["m"].source == evil
    assert list(loaded.spec.models) == ["m"]


def test_providers_config_keeps_the_environment_for_run_time(tmp_path: Path) -> None:
    text = """\
params: {host: example.test}
models:
  cloud:
    type: llm
    provider: remote::openai
    config: {base_url: "https://${params.host}/${env.PATH_:=v1}", api_key: {secret: CLOUD}, raw: "$$x"}
"""
    config = read(tmp_path, text).spec.models["cloud"].config
    assert config == {"base_url": "https://example.test/${env.PATH_:=v1}", "api_key": {"secret": "CLOUD"}, "raw": "$$x"}


def test_extension_keys_and_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = """\
x-base: &base {type: llm, context: 512}
models:
  a: {<<: *base, source: one}
  b: {<<: *base, context: 256}
"""
    spec = read(tmp_path, text).spec
    assert (spec.models["a"].context, spec.models["b"].context) == (512, 256)


def test_yaml_12_knows_no_yes_and_no(tmp_path: Path) -> None:
    spec = read(tmp_path, "params: {a: yes, b: no, c: 0o17, d: 017, e: 1e3, f: true, g: 12:30}\n").spec
    assert spec.params == {"a": "yes", "b": "no", "c": 15, "d": 17, "e": 1000.0, "f": True, "g": "12:30"}


def test_origins_say_where_each_value_came_from(tmp_path: Path) -> None:
    rows = {row.path: row for row in explain(read(tmp_path, target="host", overrides=("server.port=1",)))}
    kinds = {path: rows[path].origin.kind for path in rows}
    assert kinds["name"] == "file"
    assert kinds["models.chat.quantize"] == "target"
    assert kinds["server.port"] == "override"
    assert kinds["server.limits.queue"] == "default"
    assert kinds["vector_stores.docs.chunk.tokens"] == "param"
    assert rows["name"].origin.where == f"{tmp_path}/spec.yaml:2:7"
    assert rows["agents.helper.limits.wall"].value == "800ms"


def test_the_resolved_spec_loads_to_the_same_spec(tmp_path: Path) -> None:
    import json

    first = read(tmp_path, target="host")
    again = read(tmp_path, json.dumps(resolved(first)), target="host")
    assert again.spec.model_dump(exclude={"targets"}) == first.spec.model_dump(exclude={"targets"})
    assert resolved(again) == resolved(first)


def test_ten_faults_are_all_reported_in_file_order(tmp_path: Path) -> None:
    text = """\
name: Bad Name
modles: {}
models:
  chat: {type: lm, souce: x, context: big}
  embed: {type: embedding, source: "${params.nope}"}
vector_stores:
  docs: {embedding: chat2, sources: []}
agents:
  helper: {model: embed, limits: {wall: 30}}
targets:
  hots: {}
"""
    assert faults(tmp_path, text) == [
        "spec.yaml:1:7: 'Bad Name' is not a name: a lower-case letter, then letters, digits and _ . - (at most 63)",
        "spec.yaml:2:1: unknown key 'modles'. Did you mean 'models'?",
        "spec.yaml:4:16: 'lm' is not one of llm, embedding, rerank. Did you mean 'llm'?",
        "spec.yaml:4:20: unknown key 'souce'. Did you mean 'source'?",
        "spec.yaml:4:39: expected a whole number, found 'big'",
        "spec.yaml:5:36: there is no param 'nope'. Params are given under 'params:'",
        "spec.yaml:7:9: missing key 'sources': name documents, or say mutable: true to add them while it serves",
        "spec.yaml:7:21: there is no model 'chat2'. There is: embed.",
        "spec.yaml:9:19: 'embed' is an embedding model; an agent needs type: llm",
        "spec.yaml:9:41: expected a number with a unit (ms, s, m, h), like 30s, found the number 30",
        "spec.yaml:11:3: unknown target 'hots'. Did you mean 'host'?",
    ]


M = "models: {m: {type: llm}}\n"
BAD = [
    ("", "spec.yaml:1:1: the file is empty; a spec is a map with at least `models:`"),
    ("# only a comment\n", "spec.yaml:1:1: the file is empty"),
    ("- a\n", "spec.yaml:1:1: a spec is a map with keys like `models:`, found a list"),
    ("hello\n", "spec.yaml:1:1: a spec is a map with keys like `models:`, found 'hello'"),
    ("null\n", "spec.yaml:1:1: a spec is a map with keys like `models:`, found nothing"),
    ("name: [a\n", "spec.yaml:2:1: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence"),
    ("name: 'a\n", "spec.yaml:2:1: found unexpected end of stream"),
    ("name: a: b\n", "spec.yaml:1:8: a colon followed by a blank starts a value; quote a text that contains one"),
    ("\tname: a\n", "spec.yaml:1:1: a tab cannot be used for indentation; use spaces"),
    ("name: a\n---\nname: b\n", "spec.yaml:2:1: a second document starts here; a spec is one document"),
    ("%YAML 1.1\n---\nname: a\n", "this file asks for another version of YAML; a spec is YAML 1.2"),
    (
        "server: {port: ${env.PORT}}\n",
        'spec.yaml:1:17: inside { } or [ ] a substitution must be quoted: {key: "${env.NAME}"}',
    ),
    ("plugins: [${env.X}]\n", "inside { } or [ ] a substitution must be quoted"),
    ("name: a\nname: b\n", "spec.yaml:2:1: the key 'name' is given twice; the first is in line 1"),
    (
        "models: {m: {type: llm}, m: {type: llm}}\n",
        "spec.yaml:1:26: the key 'm' is given twice; the first is in line 1",
    ),
    ("name: !!python/object:os.system x\n", "spec.yaml:1:7: the tag !!python/object:os.system is not allowed"),
    ("name: !!str demo\n", "spec.yaml:1:7: the tag !!str is not allowed"),
    ("models: !custom {}\n", "spec.yaml:1:9: the tag !custom is not allowed"),
    ("? [a]\n: b\n", "spec.yaml:1:3: a key must be a plain text"),
    ("name: *nope\n", "spec.yaml:1:7: *nope is used before &nope"),
    ("x-a: &a [*a]\n", "spec.yaml:1:10: *a refers to the value it stands in"),
    ("params: {a: .inf}\n", "spec.yaml:1:13: .inf is not a number that a spec can hold"),
    ("params: {a: .nan}\n", "spec.yaml:1:13: .nan is not a number that a spec can hold"),
    ("params: {a: 1e999}\n", "spec.yaml:1:13: 1e999 is too large"),
    ("params: {a: [1]}\n", "spec.yaml:1:13: expected a text, a number, true or false, found a list"),
    ("params: {a: null}\n", "spec.yaml:1:13: expected a text, a number, true or false, found nothing"),
    ("version: 2\n", "spec.yaml:1:10: the number 2 is not one of 1."),
    ("version: '1'\n", "spec.yaml:1:10: '1' is not one of 1."),
    ("name: 5\n", "spec.yaml:1:7: expected a text, found the number 5"),
    ("name: true\n", "spec.yaml:1:7: expected a text, found true"),
    ("name: Upper\n", "spec.yaml:1:7: 'Upper' is not a name"),
    (f"name: {'a' * 64}\n", "is not a name"),
    ("models: [a]\n", "spec.yaml:1:9: expected a map, found a list"),
    ("models:\n", "spec.yaml:1:1: expected a map, found nothing"),
    ("models: {m: 3}\n", "spec.yaml:1:13: expected a map, found the number 3"),
    ("models: {m: {}}\n", "spec.yaml:1:10: missing key 'type': what it does"),
    ("models: {M: {type: llm}}\n", "spec.yaml:1:10: 'M' is not a name"),
    ("models: {m: {type: LLM}}\n", "spec.yaml:1:20: 'LLM' is not one of llm, embedding, rerank. Did you mean 'llm'?"),
    ("models: {m: {type: llm, kind: x}}\n", "spec.yaml:1:25: unknown key 'kind'."),
    ("models: {m: {type: llm, contxt: 1}}\n", "unknown key 'contxt'. Did you mean 'context'?"),
    ("models: {m: {type: llm, quantise: int4}}\n", "unknown key 'quantise'. Did you mean 'quantize'?"),
    ("models: {m: {type: llm, quantize: fp8}}\n", "'fp8' is not one of int4, int8, int8-fast, none."),
    ("models: {m: {type: llm, context: 1.5}}\n", "spec.yaml:1:34: expected a whole number, found the number 1.5"),
    ("models: {m: {type: llm, context: true}}\n", "expected a whole number, found true"),
    ("models: {m: {type: llm, context: '512'}}\n", "expected a whole number, found '512'"),
    ("models: {m: {type: llm, context: 1}}\n", "spec.yaml:1:34: 1 is out of range: at least 16"),
    ("models: {m: {type: llm, context: 9999999}}\n", "9999999 is out of range: at most 1048576"),
    ("models: {m: {type: llm, config: []}}\n", "expected a map, found a list"),
    (
        "models: {m: {type: llm, provider: inline::onx}}\n",
        "unknown provider 'inline::onx'. Did you mean 'inline::onnx'?",
    ),
    ("vector_stores: {v: {sources: [a]}}\n", "spec.yaml:1:17: missing key 'embedding': the model"),
    ("models: {e: {type: embedding}}\nvector_stores: {v: {embedding: e}}\n", "spec.yaml:2:20: missing key 'sources'"),
    ("vector_stores: {v: {embedding: e, sources: a.md}}\n", "expected a list, found 'a.md'"),
    ("vector_stores: {v: {embedding: e, sources: [1]}}\n", "spec.yaml:1:45: expected a text, found the number 1"),
    ("vector_stores: {v: {embedding: e, sources: [{pth: a}]}}\n", "unknown key 'pth'. Did you mean 'path'?"),
    ("vector_stores: {v: {embedding: e, sources: [{attributes: {a: 1}}]}}\n", "spec.yaml:1:45: name the documents by"),
    ("vector_stores: {v: {embedding: e, sources: [{url: a.md}]}}\n", "spec.yaml:1:51: expected a URL that begins"),
    ("vector_stores: {v: {embedding: e, sources: [{path: a, attributes: {a: [1]}}]}}\n", "found a list"),
    (
        M + "vector_stores: {v: {embedding: m, sources: [a]}}\n",
        "'m' is an llm; a vector store needs type: embedding",
    ),
    (
        M + "vector_stores: {v: {embedding: e, sources: [a], rerank: m}}\n",
        "spec.yaml:2:57: 'm' is an llm; rerank needs type: rerank",
    ),
    (
        "models: {r: {type: rerank}}\nvector_stores: {v: {embedding: e, sources: [a], rewrite: r}}\n",
        "'r' is a rerank model; rewrite needs type: llm",
    ),
    (
        "models: {r: {type: rerank}}\nvector_stores: {v: {embedding: e, sources: [a], rerank: q}}\n",
        "there is no model 'q'. There is: r.",
    ),
    ("models: {r: {type: rerank}}\nagents: {a: {model: r}}\n", "'r' is a rerank model; an agent needs type: llm"),
    ("vector_stores: {v: {embedding: e, sources: [a], chunk: {tokens: 8}}}\n", "8 is out of range: at least 16"),
    (
        "vector_stores: {v: {embedding: e, sources: [a], search: fuzzy}}\n",
        "'fuzzy' is not one of vector, keyword, hybrid.",
    ),
    (M + "agents: {a: {model: n}}\n", "spec.yaml:2:21: there is no model 'n'. There is: m."),
    (M + "agents: {a: {model: a}}\n", "spec.yaml:2:21: an agent cannot be its own model"),
    (M + "agents: {m: {model: m}}\n", "spec.yaml:2:10: 'm' is a model already; an agent is addressed as a model too"),
    (M + "agents: {a: {model: m, vector_stores: [x]}}\n", "spec.yaml:2:40: there is no vector store 'x'."),
    (M + "agents: {a: {model: m, vector_stores: x}}\n", "expected a list, found 'x'"),
    (
        (
            "models: {m: {type: llm}, r: {type: rerank}}\n"
            "vector_stores: {v: {embedding: e, sources: [a], rerank: r}, w: {embedding: e, sources: [a]}}\n"
            "agents: {a: {model: m, vector_stores: [v, w]}}\n"
        ),
        "spec.yaml:3:43: 'w' is ranked again by no model, 'v' by 'r', and their scores cannot be compared; give all stores",
    ),
    (M + "agents: {a: {model: m, tools: [pump]}}\n", "spec.yaml:2:32: there is no tool 'pump'. There is: file_search."),
    (
        M + "agents: {a: {model: m, tools: [file_search]}}\n",
        "spec.yaml:2:32: file_search searches the agent's vector_stores, and it has none",
    ),
    (M + "agents: {a: {model: m, tools: [b]}, b: {model: m}}\n", "'b' is an agent; name it under 'agents'"),
    (M + "agents: {a: {model: m, agents: [a]}}\n", "spec.yaml:2:33: an agent cannot ask itself"),
    (M + "agents: {a: {model: m, agents: [c]}, b: {model: m}}\n", "there is no agent 'c'. There is: b."),
    (M + "agents: {a: {model: m, tainted: [mail.send]}}\n", "'mail.send' is none of this agent's tools."),
    (
        M + "agents: {a: {model: m, limits: {wall: 5}}}\n",
        "(ms, s, m, h), like 30s, found the number 5",
    ),
    (
        M + "agents: {a: {model: m, limits: {wall: 5 days}}}\n",
        "(ms, s, m, h), like 30s, found '5 days'",
    ),
    ("server: {port: 70000}\n", "spec.yaml:1:16: 70000 is out of range: at most 65535"),
    (
        "server: {limits: {body: 1 meg}}\n",
        "(B, KB, MB, GB, KiB, MiB, GiB), like 64MiB, found '1 meg'",
    ),
    ("server: {limits: {deadline: 0s}}\n", "spec.yaml:1:29: 0s is out of range: more than 0"),
    ("server: {limits: {body: 0B}}\n", "spec.yaml:1:25: 0B is out of range: more than 0"),
    ('name: "\\ud800"\n', "spec.yaml:1:7: holds half of a character (a lone surrogate)"),
    (f"params: {{a: {'9' * 5000}}}\n", "spec.yaml:1:13: a number of 5000 digits is too large"),
    ('name: "a\\nb"\n', "spec.yaml:1:7: 'a\\nb' is not a name"),
    ("targets: {host: 5}\n", "spec.yaml:1:17: expected a map, found the number 5"),
    ("server: {prot: 1}\n", "unknown key 'prot'. Did you mean 'port'?"),
    ("budgets: {artifact: 5}\n", "expected a number with a unit"),
    ("plugins: ['a', {}]\n", "spec.yaml:1:16: expected a text, found a map"),
    ("targets: []\n", "spec.yaml:1:10: expected a map, found a list"),
    ("targets: {conatiner: {}}\n", "spec.yaml:1:11: unknown target 'conatiner'. Did you mean 'container'?"),
    (
        "name: ${env.NOT_SET}\n",
        "the environment variable NOT_SET is not set; set it, or give a default: ${env.NOT_SET:=default}",
    ),
    ("name: ${params.x}\n", "spec.yaml:1:7: there is no param 'x'."),
    ("params: {size: 1}\nname: ${params.siz}\n", "spec.yaml:2:7: there is no param 'siz'. Did you mean 'size'?"),
    ("params: {a: x, b: '${params.a}'}\n", "spec.yaml:1:19: a param cannot be made from another param"),
    ("name: ${HOME}\n", "'${HOME}' is not understood; write ${env.NAME}, ${env.NAME:=default} or ${params.NAME}"),
    ("name: ${env.A:-b}\n", "'${env.A:-b}' is not understood"),
    ("name: a${\n", "spec.yaml:1:7: '${' without '}'; write '$${' for a literal '${'"),
    ("name: caf\u00e9\x01\n", "spec.yaml:1:11: not readable as YAML"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[repr(text)[:50] for text, _ in BAD])
def test_a_bad_spec_is_told_what_and_where(tmp_path: Path, text: str, message: str) -> None:
    found = faults(tmp_path, text)
    assert any(message in line for line in found), found


def test_nobody_is_told_the_same_thing_twice(tmp_path: Path) -> None:
    for text, _ in BAD:
        found = faults(tmp_path, text)
        assert len(found) == len(set(found)), found


def test_limits_of_size_depth_and_nodes(tmp_path: Path) -> None:
    assert "larger than 1,048,576 bytes" in faults(tmp_path, b"#" * ((1 << 20) + 1))[0]
    assert "nested more than 32 deep" in faults(tmp_path, "x-a: " + "[" * 40 + "]" * 40)[0]
    bomb = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    assert "more than 10,000 values after anchors are expanded" in faults(tmp_path, bomb)[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert faults(tmp_path, b"name: \xff\xfe\n") == ["spec.yaml:1:7: not UTF-8; save the file in that encoding"]
    with pytest.raises(SpecError, match="is a folder; name the spec file in it"):
        load(tmp_path, environ={})
    with pytest.raises(SpecError, match="cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml", environ={})


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfname: demo\n").spec.name == "demo"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models", "expected KEY=VALUE"),
        ("=x", "expected KEY=VALUE"),
        ("models.chat.quantize=int5", "'int5' is not one of"),
        ("server.prot=1", "--set server.prot: unknown key 'prot'. Did you mean 'port'?"),
        ("server.port=[1", "--set server.port:1:3"),
        ("vector_stores.docs.sources.7=x", "the list has 1 entries, there is no 7"),
        ("name=!!python/name:os x", "is not allowed"),
    ],
)
def test_a_bad_override_names_itself(tmp_path: Path, override: str, message: str) -> None:
    assert any(message in line for line in faults(tmp_path, GOOD, overrides=(override,)))


def test_an_unknown_target_on_the_command_line(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD, target="hostt") == ["--target hostt: unknown target 'hostt'. Did you mean 'host'?"]


@pytest.mark.parametrize("key", ["version: 1", "targets: {}"])
def test_what_a_target_cannot_override(tmp_path: Path, key: str) -> None:
    text = f"targets:\n  host:\n    {key}\n"
    assert f"spec.yaml:3:5: '{key.partition(':')[0]}' cannot differ by target" in faults(tmp_path, text, target="host")


def test_a_target_without_options(tmp_path: Path) -> None:
    assert read(tmp_path, "targets:\n  host:\n", target="host").target_options == {}


def test_an_environment_that_is_not_utf_8(tmp_path: Path) -> None:
    told = faults(tmp_path, "name: ${env.X}\n", environ={"X": "\udcff"})
    assert told == ["spec.yaml:1:7: the environment variable X does not hold UTF-8"]


def test_faults_in_a_targets_override_stand_where_they_are_written(tmp_path: Path) -> None:
    text = "models: {m: {type: llm}}\ntargets:\n  host: {models: {m: {quantize: int3}}}\n"
    assert faults(tmp_path, text, target="host") == [
        "spec.yaml:3:33: 'int3' is not one of int4, int8, int8-fast, none. Did you mean 'int8'?"
    ]
    assert read(tmp_path, text).spec.models["m"].quantize is None


PIECES = [
    *(
        "&a ",
        "*a",
        "<<: *a",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "\n",
        "  ",
        "${env.X}",
        "${params.y}",
        "$${",
        "${",
        "!!str ",
    ),
    *("null", "1e5", ".nan", "? ", "|", ">", '"', "'", "#", "%", "@", "\t", "x-a:", "targets:", "config:", "agents:\n"),
    *("--- ", "...", "\u2028", "\x85", "\ufeff", "\U0001f600", '"\\ud800"', "9" * 30, "models:"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 6), st.sampled_from(PIECES)), max_size=5))
def test_whatever_is_written_is_loaded_or_told_with_a_place(tmp_path: Path, cuts: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for at, gone, piece in cuts:
        text = text[:at] + piece + text[at + gone :]
    try:
        read(tmp_path, text, target="host")
    except SpecError as error:
        assert all(problem.where and problem.message for problem in error.problems)


def test_documents_are_texts_or_maps_and_are_spelled_back(tmp_path: Path) -> None:
    entries = ["a/*.md", "https://x.org/b.html", {"path": "c", "attributes": {"team": "hr", "n": 1, "on": True}}]
    spec = tmp_path / "spec.yaml"
    stores = {"d": {"embedding": "e", "sources": entries}}
    spec.write_text(json.dumps({"models": {"e": {"type": "embedding", "source": "m"}}, "vector_stores": stores}))
    loaded = load(spec, environ={})
    found = loaded.spec.vector_stores["d"].sources
    assert [(entry.path, entry.url, dict(entry.attributes)) for entry in found] == [
        ("a/*.md", None, {}),
        (None, "https://x.org/b.html", {}),
        ("c", None, {"team": "hr", "n": 1, "on": True}),
    ]
    assert resolved(loaded)["vector_stores"]["d"]["sources"] == entries
