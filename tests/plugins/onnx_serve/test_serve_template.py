"""Chat templates of the usual styles render as jinja2 renders them, and a few as written out here."""

from __future__ import annotations

import time

import pytest

from lsbuild_plugins.onnx.compile.template import prove
from lsbuild_plugins.onnx.serve.template import ChatTemplate, TemplateRefusal, render

ASK = [{"role": "user", "content": "Hi & <b>\n"}]
TURNS = [{"role": "system", "content": " be brief "}, *ASK, {"role": "assistant", "content": "Yes."}, *ASK]
TOOL = {"type": "function", "function": {"name": "f", "description": "é <x>", "parameters": {"type": "object"}}}

CHATML = """{% for turn in messages %}
{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}"""

DEFAULT_SYSTEM = """{% for turn in messages %}
{% if loop.first and turn.role != 'system' %}{{ '<|im_start|>system
Be kind.<|im_end|>
' }}{% endif %}{{ '<|im_start|>' + turn.role + '
' + turn.content + '<|im_end|>' + '
' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

LLAMA2 = """{% set opening = messages[0].content if messages[0].role == 'system' else false %}
{% for turn in (messages[1:] if opening else messages) %}
{% set words = turn.content.strip() %}
{% if loop.index0 == 0 and opening != false %}
    {% set words = '<<SYS>>\\n' + opening + '\\n<</SYS>>\\n\\n' + words %}
{% endif %}
{% if turn.role == 'user' %}{{ bos_token + '[INST] ' + words + ' [/INST]' }}
{%- elif turn.role == 'assistant' %}{{ ' ' + words + ' ' + eos_token }}{% endif %}
{% endfor %}"""

LLAMA3 = """{%- for turn in messages %}
    {%- set body = '<|start_header_id|>' ~ turn.role ~ '<|end_header_id|>\\n\\n' ~ turn.content | trim ~ '<|eot_id|>' %}
    {%- if loop.index0 == 0 %}
        {%- set body = bos_token + body %}
    {%- endif %}
    {{- body }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

LLAMA31 = """{{- bos_token }}
{%- if not today is defined and strftime_now is defined %}
    {%- set today = strftime_now("%Y") %}
{%- endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set opening = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set opening = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nIt is " + today + ".\\n" }}
{%- if tools is not none %}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- opening + "<|eot_id|>" }}
{%- for turn in messages %}
    {%- if 'tool_calls' in turn %}
        {%- if not turn.tool_calls | length == 1 %}
            {{- raise_exception("one call only") }}
        {%- endif %}
        {%- set wanted = turn.tool_calls[0].function %}
        {{- '{"name": "' + wanted.name + '", "parameters": ' }}
        {{- wanted.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- elif turn.role == "tool" or turn.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if turn.content is mapping or turn.content is iterable %}
            {{- turn.content | tojson }}
        {%- else %}
            {{- turn.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\\n\\n' + turn.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

MISTRAL = """{{ bos_token }}{% for turn in messages %}
{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- if turn['role'] == 'user' %}{{ '[INST] ' + turn['content'] + ' [/INST]' }}
{%- elif turn['role'] == 'assistant' %}{{ turn['content'] + eos_token + ' ' }}
{%- else %}{{ raise_exception('no ' ~ turn.role ~ ' here') }}{% endif %}
{% endfor %}"""

GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('a system message is not supported') }}{% endif %}
{%- for turn in messages %}
{%- if (turn['role'] == 'assistant') %}{% set who = 'model' %}{% else %}{% set who = turn['role'] %}{% endif %}
{{- '<start_of_turn>' + who + '
' + turn['content'] | trim + '<end_of_turn>
' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model
' }}{% endif %}"""

GEMMA3 = """{{ bos_token }}
{%- if messages[0].role == 'system' -%}
    {%- if messages[0].content is string -%}
        {%- set opening = messages[0].content + '\\n\\n' -%}
    {%- else -%}
        {%- set opening = messages[0].content[0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set opening = "" -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for turn in turns -%}
    {{ '<start_of_turn>' + ("model" if turn.role == 'assistant' else turn.role) + '\\n' + (opening if loop.first else "") }}
    {%- if turn.content is string -%}
        {{ turn.content | trim }}
    {%- elif turn.content is iterable -%}
        {%- for part in turn.content if part.type == 'text' -%}
            {{ part.text | trim }}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}"""

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set found = namespace(searching=true, last=messages|length - 1) %}
{%- for turn in messages[::-1] %}
    {%- set place = (messages|length - 1) - loop.index0 %}
    {%- if found.searching and turn.role == "user" and not turn.content.startswith('<tool_response>') %}
        {%- set found.searching = false %}
        {%- set found.last = place %}
    {%- endif %}
{%- endfor %}
{%- for turn in messages %}
    {%- if turn.role == "user" or (turn.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>' + '\\n' }}
    {%- elif turn.role == "assistant" %}
        {%- set said = turn.content %}
        {%- if turn.reasoning_content is defined and turn.reasoning_content is not none %}
            {%- set said = '<think>' + turn.reasoning_content + '</think>' + said %}
        {%- elif '</think>' in said %}
            {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' + said + ('+' if loop.index0 > found.last else '') }}
        {%- for call in turn.tool_calls or [] %}
            {%- if not loop.first or said %}
                {{- '\\n' }}
            {%- endif %}
            {%- if call.function %}
                {%- set call = call.function %}
            {%- endif %}
            {{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif turn.role == "tool" %}
        {%- if loop.first or loop.previtem.role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + turn.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

PHI3 = """{% for turn in messages %}
{% if turn['role'] in ['system', 'user', 'assistant'] %}{{ '<|' + turn['role'] + '|>
' + turn['content'] + '<|end|>
' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}"""

ZEPHYR = """{% for turn in messages %}
{% if turn['role'] == 'user' %}
{{ '<|user|>
' + turn['content'] + eos_token }}
{% elif turn['role'] == 'assistant' %}
{{ '<|assistant|>
'  + turn['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

MACROS = """{%- macro turn(role, text, last=false) -%}
[{{ role | upper }}] {{ text | replace("\\n", " ") }}{{ "" if last else "\\n" }}
{%- endmacro -%}
{%- for role, group in messages | groupby("role") %}{{ role }}={{ group | length }};{% endfor %}
{%- for message in messages if message.role != "system" %}
{{- turn(message.role, message.content, loop.last) }}
{%- endfor %}
{%- for key, value in {"b": 1, "a": 2}.items() %} {{ key }}:{{ value }}{% endfor %}
{%- for n in range(9) %}{% if n == 2 %}{% continue %}{% elif n > 3 %}{% break %}{% endif %}{{ n }}{% endfor %}
{{ messages | map(attribute="role") | join(",") }}
{{ (messages | selectattr("role", "equalto", "user") | list)[-1].content | length }}
{# a comment #}{{ none }} {{ true }} {{ 7 // 2 }} {{ 7 % 3 }} {{ "a" ~ 1 }} {{ ["x", 1, none] }}"""

GENERATION = """{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {% generation %}
{{ message.content }}
        {%- endgeneration -%}
    {%- else %}
{{ message.role }}: {{ message.content }}
    {% endif %}
{%- endfor %}"""

STYLES = {
    "chatml": CHATML,
    "default system": DEFAULT_SYSTEM,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "llama3.1": LLAMA31,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "gemma3": GEMMA3,
    "qwen": QWEN,
    "phi3": PHI3,
    "zephyr": ZEPHYR,
    "macros": MACROS,
    "generation": GENERATION,
}


@pytest.mark.parametrize("style", STYLES)
def test_styles_render_as_in_jinja2(style: str) -> None:
    proof = prove(STYLES[style], "<s>", "</s>", style)
    assert proof.rendered >= 1
    families = {"qwen": "hermes", "llama3.1": "llama3-json"}
    assert (proof.found.tools.family if proof.found.tools else None) == families.get(style)


def test_texts_written_out() -> None:
    assert render(CHATML, ASK) == "<|im_start|>user\nHi & <b>\n<|im_end|>\n\n<|im_start|>assistant\n\n"
    assert render(LLAMA3, TURNS[:2], bos_token="<B>") == (
        "<B><|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi & <b><|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert render(MISTRAL, ASK, bos_token="<s>", eos_token="</s>") == "<s>[INST] Hi & <b>\n [/INST]"
    assert render(PHI3, ASK, eos_token="<E>", add_generation_prompt=False) == "<|user|>\nHi & <b>\n<|end|>\n<E>"


def test_tojson_writes_as_python_does() -> None:
    value = {"b": "é<\"'&>", "a": [1, 1.0, 1e20, True, None], "c": {}}
    ways = ("", "(indent=2)", "(ensure_ascii=true, sort_keys=true)")
    template = "|".join(f"{{{{ messages[0] | tojson{way} }}}}" for way in ways)
    assert render(template, [value]) == (
        '{"b": "é<\\"\'&>", "a": [1, 1.0, 1e+20, true, null], "c": {}}|'
        '{\n  "b": "é<\\"\'&>",\n  "a": [\n    1,\n    1.0,\n    1e+20,\n    true,\n    null\n  ],\n  "c": {}\n}|'
        '{"a": [1, 1.0, 1e+20, true, null], "b": "\\u00e9<\\"\'&>", "c": {}}'
    )


def test_without_tools_the_variable_is_none() -> None:
    template = "{{ tools is none }} {{ tools is defined }} {{ documents is none }} {{ bos_token is defined }}"
    assert render(template, []) == "True True True False"
    assert render("{{ tools[0].function.name }}", [], [TOOL]) == "f"


def test_further_variables_reach_the_template() -> None:
    assert render(QWEN, ASK, extra={"enable_thinking": False}).endswith("assistant\n<think>\n\n</think>\n\n")
    with pytest.raises(TemplateRefusal, match="may not set messages"):
        render(QWEN, ASK, extra={"messages": []})


def test_refusals_carry_the_templates_own_words() -> None:
    with pytest.raises(TemplateRefusal, match="a system message is not supported"):
        render(GEMMA, TURNS, bos_token="<s>")
    with pytest.raises(TemplateRefusal, match="must alternate"):
        ChatTemplate(MISTRAL).render([*ASK, *ASK], bos_token="<s>", eos_token="</s>")
    with pytest.raises(TemplateRefusal, match="not valid jinja"):
        ChatTemplate("{% for %}")
    with pytest.raises(TemplateRefusal, match="undefined"):
        render("{{ messages[0].a.b }}", ASK)


def test_the_clock() -> None:
    assert render("{{ strftime_now('%Y') }}", []) == time.strftime("%Y")
