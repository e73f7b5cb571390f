"""LlamaIndex before an artifact: a function-calling agent and a stream; run in the environment of `make clients`.

    llamaindex_client.py BASE_URL MODEL TASK

Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

SHOUTED: list[str] = []


def shout(text: str) -> str:
    """Say a text loudly."""
    SHOUTED.append(text)
    return text.upper()


async def main(base: str, model: str, task: str) -> None:
    """An agent with a tool of the client's own, then the model alone as a stream."""
    llm = OpenAILike(
        model=model,
        api_base=base,
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=4096,
        max_retries=0,
    )
    agent = FunctionAgent(tools=[shout], llm=llm, system_prompt="Do what you are told.")
    whole = await agent.run(task)
    pieces = [piece.delta or "" async for piece in await llm.astream_chat([ChatMessage(role="user", content=task)])]
    print(json.dumps({"whole": str(whole), "streamed": "".join(pieces), "shouted": SHOUTED}))


asyncio.run(main(*sys.argv[1:]))
