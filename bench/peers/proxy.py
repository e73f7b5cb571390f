"""What one writes by hand to put a cloud model behind one's own API: FastAPI, a pydantic body, the openai SDK. ``proxy URL``."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI  # type: ignore[import-not-found]
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel


class Message(BaseModel):
    """One message."""

    role: str
    content: str


class Body(BaseModel):
    """The part of OpenAI's request that the benchmark sends."""

    model: str
    messages: list[Message]
    temperature: float | None = None


def application(url: str) -> FastAPI:
    """One route that forwards."""
    app = FastAPI()
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")

    async def chat(body: Body) -> ChatCompletion:
        request: dict[str, Any] = body.model_dump(exclude_none=True)
        answer: ChatCompletion = await client.chat.completions.create(**request)
        return answer

    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), host="127.0.0.1", port=0, access_log=False)
