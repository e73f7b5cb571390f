"""Chat templates: what both engines render alike ships, what they render differently stops the build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import GateError
from lsbuild_plugins.onnx.compile import template
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint
from lsbuild_plugins.onnx.compile.forms import Found
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.forms import HERMES as HERMES_FORM
from onnx_compile_models import DECODERS, decoder_tensors, write_checkpoint

Build = Callable[..., tuple[Path, dict[str, Any]]]

CHATML = """{%- for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
# Written for this test after the form that Hermes and Qwen models use.
HERMES = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content.strip() + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- for call in message.tool_calls %}
            {%- set call = call.function %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
ALTERNATE = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}{% endif %}[{{ message['role'] }}] {{ message['content'] | trim }}
{% if message['role'] == 'assistant' %}{% generation %}{{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}"""


def test_a_plain_template_is_proved() -> None:
    proof = template.prove(CHATML, "<s>", "</s>", "m")
    assert proof == template.Proof(len(template.CONVERSATIONS), 0, Found(None, None, "none"))


def test_hermes_is_found_by_rendering_a_call() -> None:
    proof = template.prove(HERMES, "", "", "m")
    assert proof.found.tools == HERMES_FORM and proof.refused == 0


def test_refusals_count_when_both_engines_refuse() -> None:
    proof = template.prove(ALTERNATE, "<s>", "</s>", "m")
    assert proof.refused > 0 and proof.rendered > 0 and proof.rendered + proof.refused == len(template.CONVERSATIONS)


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{{ m.content.title() }}{% endfor %}",  # two languages, two rules of capital letters
        "{{ 1e20 }}",  # how a large number is written
    ],
)
def test_a_difference_stops_the_build(text: str) -> None:
    with pytest.raises(GateError, match="the chat template with 'one question'"):
        template.prove(text, "", "", "models/m")


@pytest.mark.parametrize("text", ["{% for %}", "{{ raise_exception('no') }}"])
def test_a_template_that_never_works_is_refused(text: str) -> None:
    with pytest.raises(GateError, match=r"models/m.*(not valid|refuses every)"):
        template.prove(text, "", "", "models/m")


def test_the_template_is_found_where_hubs_put_it(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]}')
    files = {"tokenizer_config.json": config}
    assert template.find_template(Checkpoint("m", files)) == "D"
    (tmp_path / "chat_template.jinja").write_text("J")
    assert (
        template.find_template(Checkpoint("m", files | {"chat_template.jinja": tmp_path / "chat_template.jinja"}))
        == "J"
    )
    assert template.find_template(Checkpoint("m", {})) is None


def test_it_ships_with_the_model(tmp_path: Path, build: Build) -> None:
    checkpoint = write_checkpoint(tmp_path / "m", DECODERS["llama"], decoder_tensors(DECODERS["llama"]))
    (checkpoint / "chat_template.jinja").write_text(HERMES)
    out, facts = build(checkpoint, type="llm")
    card = model_format.read(out)
    assert isinstance(card, model_format.Decoder) and card.tools == HERMES_FORM
    assert (out / "chat_template.jinja").read_text() == HERMES
    assert facts["chat_template"].startswith("12 conversations")
