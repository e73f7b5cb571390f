"""LangChain before an artifact: a chat model, its stream, and an agent with a tool of the client; run in the environment of
`make clients`.

    langchain_client.py BASE_URL MODEL TASK

Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

SHOUTED: list[str] = []


@tool
def shout(text: str) -> str:
    """Say a text loudly."""
    SHOUTED.append(text)
    return text.upper()


def told(model: ChatOpenAI, task: str) -> dict[str, Any]:
    """What an agent around the model says, what the model alone streams, and the use of the client's own tool."""
    SHOUTED.clear()
    agent = create_agent(model, tools=[shout], system_prompt="Do what you are told.")
    state = agent.invoke({"messages": [{"role": "user", "content": task}]})
    streamed = "".join(chunk.text for chunk in model.stream(task))
    last = state["messages"][-1]
    return {
        "whole": last.text,
        "streamed": streamed,
        "kinds": [message.type for message in state["messages"]],
        "usage": last.usage_metadata,
        "shouted": list(SHOUTED),
    }


def main(base: str, model: str, task: str) -> None:
    """Over Chat Completions and over Responses."""
    results = {}
    for name, responses in (("chat", False), ("responses", True)):
        chat = ChatOpenAI(
            model=model, base_url=base, api_key="none", max_retries=0, use_responses_api=responses, stream_usage=True
        )
        results[name] = told(chat, task)
    print(json.dumps(results))


main(*sys.argv[1:])
