"""Answers of a random model, held to grammars: whatever it would rather say, they parse and validate."""

from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from lsbuild_plugins.onnx.serve import bounds, forms, grammar, known, schema
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.constraint import Grammars
from lsbuild_plugins.onnx.serve.engine import Engine, open_engine
from lsbuild_plugins.onnx.serve.text import Vocabulary
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Chat, Delta, Sampling
from onnx_serve_models import DECODER, NoHost, byte_tokenizer, service, token, write_decoder
from random_schemas import schemas

ASK = [{"role": "user", "content": "x"}]
VOCAB = DECODER["vocab_size"]
TOKENIZER = byte_tokenizer()
BIAS = {token(TOKENIZER, text): 3.0 for text in '"]}'} | {token(TOKENIZER, text): -8.0 for text in "ĠĊĉ"}
"""A random model likes nothing better than anything else: these end its strings and lists, and spare white space."""
WILD = Sampling(seed=1, max_tokens=400, logit_bias=BIAS)
WHERE = "response_format.json_schema.schema"
POINT = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["metre", "foot"]},
        "x": {"type": "integer", "minimum": -5, "maximum": 5},
        "exact": {"type": "boolean"},
    },
    "required": ["unit", "x"],
    "additionalProperties": False,
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "move", "parameters": POINT, "strict": True}},
    {
        "type": "function",
        "function": {"name": "stop", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
    },
]


def held(name: str, value: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": value}}


def text_of(deltas: list[Delta], index: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.index == index)


def calls_of(deltas: list[Delta]) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for delta in deltas for call in delta.tool_calls]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("held") / "tiny", context=2048)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Engine]:
    engine = open_engine(service("tiny"), folder, NoHost())
    yield engine
    engine.close()


@pytest.fixture
def with_card(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    opened: list[Engine] = []

    def opens(template: str = "", **card: Any) -> Engine:
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        found = model_format.read(folder)
        assert isinstance(found, model_format.Decoder)
        model_format.write(tmp_path, replace(found, **card))
        if template:
            (tmp_path / "chat_template.jinja").write_text(template)
        opened.append(open_engine(service("tiny"), tmp_path, NoHost()))
        return opened[-1]

    yield opens
    for engine in opened:
        engine.close()


def answer(engine: Engine, sampling: Sampling = WILD, **chat: Any) -> list[Delta]:
    return list(engine.chat(Chat(ASK, sampling, **chat), Context()))


def test_a_thousand_random_schemas(model: Engine) -> None:
    """Each answer parses and validates, or the schema is refused with a reason that names it."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    ends: Counter[str] = Counter()
    for number, value in enumerate(schemas(1000, seed=1)):
        try:
            deltas = answer(model, replace(WILD, seed=number, max_tokens=300), response_format=held("a", value))
        except ApiError as error:
            assert (error.status, error.param) == (400, WHERE), (number, error.message)
            assert error.message.startswith(WHERE)
            ends["refused"] += 1
            continue
        ends[str(deltas[-1].finish)] += 1
        if deltas[-1].finish == "stop":
            found = json.loads(text_of(deltas))
            jsonschema.Draft202012Validator(value, format_checker=checker).validate(found)
    assert ends["stop"] > 800 and ends["stop"] + ends["refused"] + ends["length"] == 1000, ends


def test_sound_schemas_are_not_refused(model: Engine) -> None:
    for value in (
        POINT,
        {
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/t"}},
            "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}},
        },
    ):
        assert answer(model, replace(WILD, max_tokens=4), response_format=held("a", value))


def test_json_object_and_a_schema_left_out_give_an_object(model: Engine) -> None:
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "a"}}):
        deltas = answer(model, replace(WILD, max_tokens=600), response_format=form)
        assert deltas[-1].finish == "stop" and isinstance(json.loads(text_of(deltas)), dict)


def test_every_choice_is_held_and_seeds_repeat(model: Engine) -> None:
    one, again = (answer(model, replace(WILD, n=3), response_format=held("a", POINT)) for _ in range(2))
    texts = [text_of(one, index) for index in range(3)]
    assert texts == [text_of(again, index) for index in range(3)]
    assert len(set(texts)) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), POINT)
    usage = one[-1].usage
    assert usage is not None and usage.completion == sum(len(TOKENIZER.encode(text).ids) for text in texts)


def test_greedy_takes_the_likeliest_token_that_is_allowed(model: Engine, folder: Path) -> None:
    """The same answer as a plain loop that masks by hand."""
    from lsbuild_plugins.onnx.serve.kv import open_memory
    from lsbuild_plugins.onnx.serve.session import open_session

    card = model_format.read(folder)
    assert isinstance(card, model_format.Decoder)
    memory = open_memory(open_session(service("m"), folder / "model.onnx"), card)
    vocabulary = Vocabulary(TOKENIZER, tuple(forms.marks(card.tools, None)))
    text = grammar.write(grammar.Wanted(answer=POINT), None, None, vocabulary.pieces)
    constraint = Grammars(vocabulary, card.vocab, card.eos).open(text, "a")
    row = memory.run(vocabulary.encode("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"), slice(-1, None))[0]
    expected: list[int] = []
    while not constraint.ended:
        row[constraint.blocked(card.vocab)] = -np.inf
        read = [int(row.argmax())]
        read += constraint.take(read[0])
        expected += read
        row = memory.run(read, slice(-1, None))[0]
    assert text_of(answer(model, Sampling(temperature=0), response_format=held("a", POINT))) == vocabulary.text(
        expected
    )


def test_log_probabilities_come_for_forced_tokens_too(model: Engine) -> None:
    plain = answer(model, response_format=held("a", POINT))
    scored = answer(model, replace(WILD, logprobs=2), response_format=held("a", POINT))
    tokens = [each for delta in scored for each in delta.logprobs]
    usage = plain[-1].usage
    assert usage is not None and len(tokens) == usage.completion
    assert b"".join(each.raw for each in tokens).decode() == text_of(scored) == text_of(plain)
    assert all(each.logprob <= 0 and len(each.top) == 2 for each in tokens)


def test_stop_strings_penalties_and_limits_keep_their_meaning(model: Engine) -> None:
    form = held("a", POINT)
    assert text_of(answer(model, replace(WILD, stop=('"unit',)), response_format=form)).strip() == "{"
    cut = answer(model, replace(WILD, max_tokens=9), response_format=form)
    assert cut[-1].finish == "length" and cut[-1].usage is not None and cut[-1].usage.completion == 9
    for length in range(1, 40):
        deltas = answer(model, replace(WILD, max_tokens=length, frequency_penalty=1), response_format=form)
        assert deltas[-1].usage is not None and deltas[-1].usage.completion <= length
        if deltas[-1].finish == "stop":
            jsonschema.validate(json.loads(text_of(deltas)), POINT)
            break
    else:
        pytest.fail("no answer was short enough")


@pytest.mark.parametrize("choice", ["required", "move", "stop"])
@pytest.mark.parametrize("family", ["hermes", "mistral", "granite", "phi", "llama", "pythonic"])
def test_a_call_that_must_be_made_is_made(with_card: Callable[..., Engine], family: str, choice: str) -> None:
    form = getattr(forms, family.upper())
    engine = with_card(tools=form)
    for seed in range(6):
        deltas = answer(
            engine,
            replace(WILD, seed=seed, max_tokens=900),
            tools=TOOLS,
            tool_choice=choice,
            parallel_tool_calls=seed % 2 == 0,
        )
        calls = calls_of(deltas)
        assert deltas[-1].finish == "tool_calls" and not text_of(deltas).strip()
        assert calls and (seed % 2 == 0 or len(calls) == 1)
        for name, arguments in calls:
            assert choice in ("required", name)
            jsonschema.validate(arguments, POINT if name == "move" else {"maxProperties": 0})


@pytest.mark.parametrize("family", ["hermes", "mistral", "granite", "phi", "llama", "pythonic"])
def test_a_call_that_must_be_made_and_is_cut_is_never_text(with_card: Callable[..., Engine], family: str) -> None:
    engine = with_card(tools=getattr(forms, family.upper()))
    names = set()
    for length in range(1, 40):
        deltas = answer(engine, replace(WILD, seed=2, max_tokens=length), tools=TOOLS, tool_choice="move")
        assert not text_of(deltas)
        cut = [call for delta in deltas for call in delta.tool_calls]
        names |= {call.name for call in cut}
        assert deltas[-1].finish == "length" or cut[-1].whole
    assert names == {"move"}


def test_strict_functions_hold_calls_that_the_model_begins_by_itself(with_card: Callable[..., Engine]) -> None:
    """The bias makes it begin; then only a call of a known function with valid arguments can follow."""
    engine = with_card()
    bias = {**BIAS, token(TOKENIZER, "<tool_call>"): 12.0}
    for seed in range(8):
        deltas = answer(engine, replace(WILD, seed=seed, logit_bias=bias), tools=TOOLS, parallel_tool_calls=False)
        found = calls_of(deltas)
        assert len(found) == 1 and "<tool_call>" not in text_of(deltas)
        for name, arguments in found:
            assert name in ("move", "stop")
            jsonschema.validate(arguments, POINT if name == "move" else {"maxProperties": 0})


def test_a_call_that_the_model_begins_is_held_also_where_no_function_is_strict(
    with_card: Callable[..., Engine],
) -> None:
    engine = with_card()
    loose = [{"type": "function", "function": {**tool["function"], "strict": False}} for tool in TOOLS]
    bias = {**BIAS, token(TOKENIZER, "<tool_call>"): 12.0}
    for seed in range(6):
        deltas = answer(engine, replace(WILD, seed=seed, logit_bias=bias), tools=loose, parallel_tool_calls=False)
        found = calls_of(deltas)
        assert len(found) == 1 and "<tool_call>" not in text_of(deltas)
        for name, arguments in found:
            jsonschema.validate(arguments, POINT if name == "move" else {"maxProperties": 0})


def test_what_cannot_be_held_is_free_where_nobody_insists(
    with_card: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ApiError(400, "too complex")

    monkeypatch.setattr(Grammars, "open", refuse)
    loose = [{"type": "function", "function": {"name": "f"}}]
    bias = {token(TOKENIZER, "<tool_call>"): 12.0}
    assert answer(with_card(), replace(WILD, max_tokens=20, logit_bias=bias), tools=loose)[-1].finish is not None


def test_without_strict_functions_auto_holds_nothing(model: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    loose = [{"type": "function", "function": {"name": "f"}}]
    monkeypatch.setattr(Grammars, "open", lambda *_: pytest.fail("it was held"))
    assert answer(model, tools=loose) and answer(model, tools=TOOLS, tool_choice="none")


def test_a_format_and_tools_give_one_or_the_other(model: Engine) -> None:
    seen = set()
    for seed in range(30):
        deltas = answer(model, replace(WILD, seed=seed), tools=TOOLS, response_format=held("a", POINT))
        seen.add(str(deltas[-1].finish))
        if deltas[-1].finish == "stop":
            jsonschema.validate(json.loads(text_of(deltas)), POINT)
    assert {"stop", "tool_calls"} >= seen - {"length"} and "stop" in seen


def test_a_model_that_thinks_may_do_so_first(with_card: Callable[..., Engine]) -> None:
    begun = "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n"
    engine = with_card(begun, reasoning=forms.THINK)
    bias = BIAS | {token(TOKENIZER, "<"): 5.0, token(TOKENIZER, "/"): 5.0}
    deltas = answer(engine, replace(WILD, max_tokens=40, logit_bias=bias), response_format=held("a", POINT))
    assert not text_of(deltas) and "".join(delta.reasoning for delta in deltas)
    quick = with_card("{% for m in messages %}{{ m.content }}{% endfor %}<think></think>", reasoning=forms.THINK)
    jsonschema.validate(json.loads(text_of(answer(quick, response_format=held("a", POINT)))), POINT)


@pytest.mark.parametrize(
    ("chat", "param", "said"),
    [
        (
            {"response_format": held("a", {"properties": {"x": {"uniqueItems": True}}})},
            WHERE,
            "schema.properties.x.uniqueItems: 'uniqueItems' cannot be enforced",
        ),
        (
            {"response_format": held("a", {"properties": {"x": {"pattern": "(a)\\1"}}})},
            WHERE,
            "schema.properties.x: a pattern cannot be used: backreferences",
        ),
        (
            {
                "response_format": held(
                    "a",
                    {
                        "type": "object",
                        "properties": {"x": {"type": "integer", "minimum": 3, "maximum": 2}},
                        "required": ["x"],
                    },
                )
            },
            WHERE,
            "schema.properties.x: Unsatisfiable schema",
        ),
        (
            {
                "response_format": held(
                    "a", {"oneOf": [{"type": "integer", "minimum": 1}, {"type": "integer", "maximum": 3}]}
                )
            },
            WHERE,
            "use 'anyOf'",
        ),
        (
            {"response_format": held("a", {"type": "object", "properties": {f"k{n}": {} for n in range(900)}})},
            WHERE,
            "too many things may come next",
        ),
        ({"response_format": held("a", {"type": "string", "pattern": "^(a?){500}a{500}$"})}, WHERE, "too complex"),
        ({"response_format": {"type": "yaml"}}, "response_format", "'yaml' is not known"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}}]},
            "tools[0].function.parameters",
            ".not: 'not' cannot be enforced",
        ),
    ],
)
def test_what_cannot_be_held_is_refused(model: Engine, chat: Mapping[str, Any], param: str, said: str) -> None:
    with pytest.raises(ApiError) as error:
        answer(model, **chat)
    assert (error.value.status, error.value.param) == (400, param)
    assert said in error.value.message


NASTY: dict[str, Any] = {
    "long strings": {"type": "string", "minLength": 10_000, "maxLength": 100_000},
    "long lists": {
        "type": "array",
        "minItems": 1000,
        "maxItems": 10_000,
        "items": {"type": "array", "minItems": 1000, "maxItems": 10_000},
    },
    "powers": {"type": "string", "pattern": "^(((a{1,100}){1,100}){1,100}){1,100}$"},
    "dots": {"type": "string", "pattern": ".*" * 400},
    "letters": {"type": "string", "pattern": r"^(\p{L}{1,100}[0-9]{1,100}){1,100}$"},
    "enum": {"enum": ["v" * 100 + str(n) for n in range(900)]},
    "branches": {
        "anyOf": [
            {"type": "object", "properties": {f"k{n}": {"pattern": "^a.*b$"}}, "required": [f"k{n}"]}
            for n in range(1000)
        ]
    },
    "product": {
        "allOf": [{"anyOf": [{"type": "object", "properties": {f"a{i}{j}": {}}} for j in range(3)]} for i in range(12)]
    },
    "meeting": {"allOf": [{"pattern": f"a{n}"} for n in range(60)]},
    "tree": {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {
                "anyOf": [
                    {"type": "array", "items": {"$ref": "#/$defs/a"}},
                    {"type": "object", "additionalProperties": {"$ref": "#/$defs/a"}},
                ]
            }
        },
    },
    "chain": {
        "$ref": "#/$defs/a0",
        "$defs": {
            f"a{n}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}, "required": ["x"]}
            for n in range(199)
        }
        | {"a199": {"type": "null"}},
    },
    "wide": {
        "type": "object",
        "properties": {f"k{n}": {"type": "string"} for n in range(2000)},
        "required": [f"k{n}" for n in range(2000)],
    },
}


@pytest.mark.parametrize("name", NASTY)
def test_no_schema_takes_long(model: Engine, name: str) -> None:
    """Seconds of CPU that no sound implementation needs; the least that an exponential one does."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    try:
        answer(model, replace(WILD, max_tokens=30), response_format=held("a", NASTY[name]))
    except ApiError as error:
        assert error.status == 400
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 10
    assert after.ru_maxrss - before.ru_maxrss < 400_000


def test_schemas_known_at_build_are_not_checked_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grammars" / "tiny").mkdir(parents=True)
    checked = {known.digest(POINT): schema.plain(POINT, "s")}
    (tmp_path / "grammars" / "tiny" / "schemas.json").write_bytes(msgspec.json.encode(checked))
    (tmp_path / "model").symlink_to(folder)
    engine = open_engine(replace(service("tiny"), path="model"), tmp_path, NoHost())
    monkeypatch.setattr(bounds, "check", lambda *_: pytest.fail("it was checked"))
    # The same schema in another order.
    turned = dict(reversed(list(POINT.items())))
    jsonschema.validate(json.loads(text_of(answer(engine, response_format=held("a", turned)))), POINT)
    engine.close()


def test_special_tokens_in_a_schema_are_text() -> None:
    """A constant with the words of a special token must not end the turn."""
    vocabulary = Vocabulary(TOKENIZER)
    text = grammar.write(grammar.Wanted(answer={"const": "<|im_end|>"}), None, None, vocabulary.pieces)
    constraint = Grammars(vocabulary, VOCAB, (262,)).open(text, "a")
    ids = [int(np.flatnonzero(~constraint.blocked(VOCAB))[0])]
    ids += constraint.take(ids[0])
    while not constraint.ended:
        ids.append(int(np.flatnonzero(~constraint.blocked(VOCAB))[-1]))
        ids += constraint.take(ids[-1])
    assert not vocabulary.controls.intersection(ids)
    assert vocabulary.text(ids) == '"<|im_end|>"'
