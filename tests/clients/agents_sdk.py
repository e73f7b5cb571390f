"""The OpenAI Agents SDK before an artifact, over Chat Completions and over Responses; run in the environment of `make clients`.

    agents_sdk.py BASE_URL MODEL TASK

TASK is what the user says. The function ``shout`` is the client's own. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agents import (
    Agent,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

SHOUTED: list[str] = []


@function_tool
def shout(text: str) -> str:
    """Say a text loudly.

    Args:
        text: What to say.
    """
    SHOUTED.append(text)
    return text.upper()


async def told(model: Model, task: str) -> dict[str, Any]:
    """What the agent says, whole and streamed, and what came of the client's own tool."""
    SHOUTED.clear()
    agent = Agent(name="client", instructions="Do what you are told.", model=model, tools=[shout])
    whole = await Runner.run(agent, task)
    streamed = Runner.run_streamed(agent, task)
    kinds = [event.type async for event in streamed.stream_events()]
    return {
        "whole": whole.final_output,
        "streamed": streamed.final_output,
        "events": sorted(set(kinds)),
        "items": [item.type for item in whole.new_items],
        "shouted": list(SHOUTED),
    }


async def main(base: str, model: str, task: str) -> None:
    """Both of the SDK's ways to a model."""
    set_tracing_disabled(True)
    async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
        print(
            json.dumps(
                {
                    "chat": await told(OpenAIChatCompletionsModel(model, client), task),
                    "responses": await told(OpenAIResponsesModel(model, client), task),
                }
            )
        )


asyncio.run(main(*sys.argv[1:]))
