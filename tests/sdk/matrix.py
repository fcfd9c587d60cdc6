"""Every caller's dialect against every target's: the same asking through each official SDK, and what came
back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import anthropic
import openai

from tests.running import KEY

TOOLS = {
    "look_up_river": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    "look_up_lake": {
        "type": "object",
        "properties": {"depth_m": {"type": "integer"}},
        "required": ["depth_m"],
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "length_km": {"type": "integer"}},
    "required": ["name", "length_km"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass
class Got:
    """An answer in the words of neither SDK. Tokens as billed."""

    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reason: str = ""
    input: int = 0
    output: int = 0
    thought: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asking:
    """What is asked; every SDK says it in its own words."""

    prompt: str = "Where is the river?"
    system: str = "You know rivers."
    tools: dict[str, Any] = field(default_factory=dict)
    turns: list[tuple[str, str, dict[str, Any], str]] = field(default_factory=list)
    """Calls of tools in the turns before: (id, name, arguments, result)."""
    schema: dict[str, Any] | None = None
    image: str = ""
    cap: int = 200
    effort: str = ""
    stream: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class Caller(Protocol):
    """An SDK in front of a gateway."""

    failed: tuple[type[Exception], ...]

    async def ask(self, model: str, asking: Asking) -> Got:
        """One call."""

    async def close(self) -> None:
        """Its connections end."""


def openai_at(base_url: str, key: str = KEY, *, max_retries: int = 0) -> openai.AsyncOpenAI:
    """OpenAI's SDK, as it comes but for TLS: to read the authorities takes it 60 ms, and nobody asks them."""
    http = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=max_retries, http_client=http)


def anthropic_at(origin: str, key: str = KEY, *, max_retries: int = 0) -> anthropic.AsyncAnthropic:
    """Anthropic's SDK, likewise."""
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    return anthropic.AsyncAnthropic(base_url=origin, api_key=key, max_retries=max_retries, http_client=http)


class OpenAiChat:
    """openai's chat completions."""

    failed = (openai.APIStatusError,)

    def __init__(self, origin: str, key: str) -> None:
        self._sdk = openai_at(f"{origin}/v1", key)

    async def close(self) -> None:
        await self._sdk.close()

    async def ask(self, model: str, asking: Asking) -> Got:
        content: Any = asking.prompt
        if asking.image:
            url = f"data:image/png;base64,{asking.image}"
            content = [
                {"type": "text", "text": asking.prompt},
                {"type": "image_url", "image_url": {"url": url}},
            ]
        messages: list[Any] = [
            {"role": "system", "content": asking.system},
            {"role": "user", "content": content},
        ]
        for id_, name, arguments, result in asking.turns:
            function = {"name": name, "arguments": json.dumps(arguments)}
            call = {"id": id_, "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": id_, "content": result})
        more: dict[str, Any] = {"max_completion_tokens": asking.cap, **asking.extra}
        if asking.tools:
            more["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": parameters}}
                for name, parameters in asking.tools.items()
            ]
        if asking.schema is not None:
            form = {"name": "river", "schema": asking.schema, "strict": True}
            more["response_format"] = {"type": "json_schema", "json_schema": form}
        if asking.effort:
            more["reasoning_effort"] = asking.effort
        if asking.stream:
            return await self._streamed(model, messages, more)
        raw = await self._sdk.chat.completions.with_raw_response.create(
            model=model, messages=messages, **more
        )
        answer = raw.parse()
        choice = answer.choices[0]
        calls = [
            (call.function.name, json.loads(call.function.arguments))
            for call in choice.message.tool_calls or ()
            if call.type == "function"
        ]
        assert answer.usage is not None
        return Got(
            choice.message.content or "",
            calls,
            str(choice.finish_reason),
            answer.usage.prompt_tokens,
            answer.usage.completion_tokens,
            (choice.message.model_extra or {}).get("reasoning_content") or "",
            dict(raw.headers),
        )

    async def _streamed(self, model: str, messages: list[Any], more: dict[str, Any]) -> Got:
        got, calls = Got(), {}
        options = {"include_usage": True}
        stream: AsyncIterator[Any] = await self._sdk.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options=options, **more
        )
        async for chunk in stream:
            if chunk.usage is not None:
                got.input, got.output = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
            for choice in chunk.choices:
                got.text += choice.delta.content or ""
                got.thought += (choice.delta.model_extra or {}).get("reasoning_content") or ""
                got.reason = choice.finish_reason or got.reason
                for call in choice.delta.tool_calls or ():
                    name, arguments = calls.setdefault(call.index, [call.function.name, ""])
                    calls[call.index] = [name, arguments + (call.function.arguments or "")]
        got.calls = [(name, json.loads(arguments)) for name, arguments in calls.values()]
        return got


_REASONS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


class AnthropicMessages:
    """anthropic's messages."""

    failed = (anthropic.APIStatusError,)

    def __init__(self, origin: str, key: str) -> None:
        self._sdk = anthropic_at(origin, key)

    async def close(self) -> None:
        await self._sdk.close()

    async def ask(self, model: str, asking: Asking) -> Got:
        content: Any = asking.prompt
        if asking.image:
            source = {"type": "base64", "media_type": "image/png", "data": asking.image}
            content = [{"type": "text", "text": asking.prompt}, {"type": "image", "source": source}]
        messages: list[Any] = [{"role": "user", "content": content}]
        for id_, name, arguments, result in asking.turns:
            call = {"type": "tool_use", "id": id_, "name": name, "input": arguments}
            messages.append({"role": "assistant", "content": [call]})
            told = {"type": "tool_result", "tool_use_id": id_, "content": result}
            messages.append({"role": "user", "content": [told]})
        more: dict[str, Any] = {"system": asking.system, "max_tokens": asking.cap, **asking.extra}
        if asking.tools:
            more["tools"] = [
                {"name": name, "input_schema": parameters} for name, parameters in asking.tools.items()
            ]
        if asking.schema is not None:
            more["output_config"] = {"format": {"type": "json_schema", "schema": asking.schema}}
        if asking.effort:
            more["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if asking.stream:
            async with self._sdk.messages.stream(model=model, messages=messages, **more) as stream:
                message = await stream.get_final_message()
            return self._got(message, {})
        raw = await self._sdk.messages.with_raw_response.create(model=model, messages=messages, **more)
        return self._got(await raw.parse(), dict(raw.headers))

    def _got(self, message: Any, headers: dict[str, str]) -> Got:
        got = Got(headers=headers, reason=_REASONS.get(message.stop_reason, message.stop_reason))
        for block in message.content:
            if block.type == "text":
                got.text += block.text
            elif block.type == "tool_use":
                got.calls.append((block.name, block.input))
            elif block.type == "thinking":
                got.thought += block.thinking
        usage = message.usage
        got.input = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        got.input += usage.cache_creation_input_tokens or 0
        got.output = usage.output_tokens
        return got


class OpenAiResponses:
    """openai's responses."""

    failed = (openai.APIStatusError,)

    def __init__(self, origin: str, key: str) -> None:
        self._sdk = openai_at(f"{origin}/v1", key)

    async def close(self) -> None:
        await self._sdk.close()

    async def ask(self, model: str, asking: Asking) -> Got:
        content: Any = asking.prompt
        if asking.image:
            url = f"data:image/png;base64,{asking.image}"
            content = [
                {"type": "input_text", "text": asking.prompt},
                {"type": "input_image", "image_url": url, "detail": "auto"},
            ]
        items: list[Any] = [{"role": "user", "content": content}]
        for id_, name, arguments, result in asking.turns:
            told = json.dumps(arguments)
            items.append({"type": "function_call", "call_id": id_, "name": name, "arguments": told})
            items.append({"type": "function_call_output", "call_id": id_, "output": result})
        more: dict[str, Any] = {
            "instructions": asking.system,
            "max_output_tokens": asking.cap,
            "store": False,
            **asking.extra,
        }
        if asking.tools:
            more["tools"] = [
                {"type": "function", "name": name, "parameters": parameters, "strict": False}
                for name, parameters in asking.tools.items()
            ]
        if asking.schema is not None:
            form = {"type": "json_schema", "name": "river", "schema": asking.schema, "strict": True}
            more["text"] = {"format": form}
        if asking.effort:
            more["reasoning"] = {"effort": asking.effort, "summary": "auto"}
        if asking.stream:
            return await self._streamed(model, items, more)
        raw = await self._sdk.responses.with_raw_response.create(model=model, input=items, **more)
        return self._got(raw.parse(), dict(raw.headers))

    async def _streamed(self, model: str, items: list[Any], more: dict[str, Any]) -> Got:
        text, arguments, last, numbers = "", "", None, []
        async with self._sdk.responses.stream(model=model, input=items, **more) as stream:
            async for event in stream:
                numbers.append(event.sequence_number)
                if event.type == "response.output_text.delta":
                    text += event.delta
                elif event.type == "response.function_call_arguments.delta":
                    arguments += event.delta
                elif event.type in ("response.completed", "response.incomplete"):
                    last = event.response
        assert numbers == list(range(len(numbers)))
        assert last is not None
        got = self._got(last, {})
        calls = [item.arguments for item in last.output if item.type == "function_call"]
        assert (text, arguments) == (got.text, "".join(calls)), "the pieces are the whole"
        return got

    def _got(self, response: Any, headers: dict[str, str]) -> Got:
        got = Got(text=response.output_text, headers=headers, reason="stop")
        for item in response.output:
            if item.type == "function_call":
                got.calls.append((item.name, json.loads(item.arguments)))
                got.reason = "tool_calls"
            elif item.type == "reasoning":
                got.thought += "".join(part.text for part in item.summary)
        if response.status == "incomplete":
            of = {"max_output_tokens": "length", "content_filter": "content_filter"}
            got.reason = of[response.incomplete_details.reason]
        got.input, got.output = response.usage.input_tokens, response.usage.output_tokens
        return got


CALLERS: dict[str, Any] = {
    "chat": OpenAiChat,
    "messages": AnthropicMessages,
    "responses": OpenAiResponses,
}
TARGETS = ("openai", "anthropic", "responses")


def policy_of(url: str, key_sha256: str) -> str:
    """A policy with one provider for each dialect, and models `<target>` and `<target>-thinks` of it."""
    return f"""
version: 1
providers:
  chats: {{base_url: "{url}", auth: none, dialect: openai}}
  writes: {{base_url: "{url}", auth: none, dialect: anthropic}}
  responds: {{base_url: "{url}", auth: none, dialect: responses}}
models:
  openai: {{targets: [chats/gpt-4o]}}
  anthropic: {{targets: [writes/claude-sonnet-4-5]}}
  responses: {{targets: [responds/gpt-4o]}}
  openai-thinks: {{targets: [chats/o4-mini]}}
  anthropic-thinks: {{targets: [writes/claude-sonnet-4-5]}}
  responses-thinks: {{targets: [responds/o4-mini]}}
  either: {{targets: [writes/claude-sonnet-4-5, chats/gpt-4o]}}
  drops: {{on_unsupported: drop, targets: [writes/claude-sonnet-4-5]}}
prices:
  chats/*: {{input: 2.5, cached_input: 1.25, output: 10}}
  writes/*: {{input: 3, cached_input: 0.3, output: 15}}
  responds/*: {{input: 2.5, cached_input: 1.25, output: 10}}
teams:
  search: {{models: ["*"]}}
keys:
  app: {{team: search, sha256: {key_sha256}}}
"""
