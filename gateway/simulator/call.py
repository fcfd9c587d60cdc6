"""One call for an answer: admitted, checked, generated, sent and billed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from gateway.clock import monotonic_s, now_s
from gateway.simulator import answers, shapes, tokens, vectors
from gateway.simulator.bill import Entry, key_digest
from gateway.simulator.delivery import Delivery, Progress
from gateway.simulator.door import admit, refusal_answer, unknown_model
from gateway.simulator.faults import REFUSALS, UNBILLED, Refusal
from gateway.simulator.judge import RefusedError, check, refuse
from gateway.simulator.memory import Memory
from gateway.simulator.settings import asked_for, direct
from gateway.simulator.shapes import Counts, Frame
from gateway.simulator.witness import Departure


class Call:
    """One call for an answer, from its parsed body to its line on the bill."""

    def __init__(
        self, memory: Memory, request: web.Request, endpoint: str, headers: dict[str, str], body: Any
    ) -> None:
        memory.calls += 1
        self.memory, self.settings = memory, memory.settings
        self.request, self.endpoint, self.headers = request, endpoint, headers
        self.key = admit(request, self.settings)
        if type(body) is not dict:
            raise refuse(
                400, "We could not parse the JSON body of your request: it must be a JSON object in UTF-8."
            )
        deployment = request.match_info.get("deployment")
        self.body: dict[str, Any] = body if deployment is None else {**body, "model": deployment}
        check(endpoint, self.body)
        self.model: str = self.body["model"]
        if self.settings.models and self.model not in self.settings.models:
            raise unknown_model(self.model)
        prefix = {"chat": "chatcmpl", "completions": "cmpl", "embeddings": "embd"}[endpoint]
        self.id = f"{prefix}-{uuid.uuid4().hex}"
        self.stream = endpoint != "embeddings" and bool(body.get("stream"))
        try:
            asked = asked_for(request.headers, body, self.model)
        except ValueError as exc:
            raise refuse(400, str(exc), code="invalid_value", param="simulate") from None
        scripted = None if "fault" in asked else memory.scripts.take(self.model)
        self.directions = direct(
            self.settings, asked, number=memory.calls, scripted=scripted, model=self.model
        )
        self.progress = Progress()
        self.delivery = Delivery(request, headers, self.directions, self.progress)

    async def answer(self) -> web.StreamResponse:
        """Generate, send, bill."""
        fault = self.directions.fault
        if fault is not None and fault.name in REFUSALS:
            return self.refused(REFUSALS[fault.name], {**self.headers, **fault.headers()})
        if fault is not None and fault.name in UNBILLED:
            try:
                return await self.delivery.instead()
            except asyncio.CancelledError:
                self._note_departure()
                raise
        prompts = self._prompts()
        counts = Counts(self._count_prompt(prompts), 0, 0, 0)
        limit = self.settings.context_window_tokens
        if limit and counts.input > limit:
            raise RefusedError(REFUSALS["context_window"])
        question = answers.question_hash(0, {"prompt": self.body.get("messages") or prompts})
        if self.memory.was_seen(self.model, question):
            counts.cached = tokens.cached(counts.input) if self.endpoint == "chat" else 0
        choices = self._choices(prompts)
        counts.reasoning = sum(choice.reasoning_tokens for choice in choices)
        counts.output = counts.reasoning + sum(choice.visible_tokens for choice in choices)
        counts.unseen = self._unseen(choices)
        try:
            if self.stream:
                return await self.delivery.stream(self._events(choices, counts))
            return await self.delivery.plain(self._whole(choices, prompts, counts), counts.output)
        except asyncio.CancelledError:
            self._note_departure()
            raise
        except ConnectionError:
            self._note_departure()
            # Never sent, the connection is gone; raised, the error would be logged as ours.
            return web.Response()
        finally:
            self._settle(counts)

    def refused(self, refusal: Refusal, headers: dict[str, str]) -> web.Response:
        """A refusal in the words of the API that was called."""
        return refusal_answer(refusal, headers)

    def _prompts(self) -> list[str | list[int]]:
        if self.endpoint == "chat":
            return []
        value = self.body.get("input" if self.endpoint == "embeddings" else "prompt")
        # OpenAI's default prompt: the model starts a new document.
        return tokens.inputs("<|endoftext|>" if value is None else value)

    def _count_prompt(self, prompts: list[str | list[int]]) -> int:
        if self.endpoint == "chat":
            return tokens.chat_prompt(self.body)
        return sum(map(tokens.count_input, prompts))

    def _choices(self, prompts: list[str | list[int]]) -> list[answers.Choice]:
        seed, pace = self.settings.seed, self.directions
        if self.endpoint == "chat":
            return answers.chat(seed, self.body, pace.style, pace.output_tokens, pace.says)
        if self.endpoint == "embeddings":
            return []
        choices: list[answers.Choice] = []
        for prompt in prompts:
            for choice in answers.completion(seed, self.body, prompt, pace.style, pace.output_tokens):
                choice.index = len(choices)
                choices.append(choice)
        return choices

    def _tier(self) -> str:
        tier = self.body.get("service_tier")
        return tier if tier in ("flex", "priority") else "default"

    def _unseen(self, choices: list[answers.Choice]) -> int:
        """Output that is billed though nobody sees it: candidates of `best_of` that were not the best, each
        as long as an answer that was; and what this provider makes up."""
        shown = sum(choice.visible_tokens for choice in choices)
        best_of, n = self.body.get("best_of") or 1, self.body.get("n") or 1
        rejected = shown * (best_of - n) // n if self.endpoint == "completions" and best_of > n else 0
        return rejected + (self.directions.overrun_tokens if choices else 0)

    def _frame(self) -> Frame:
        options = self.body.get("stream_options") or {}
        azure = "deployment" in self.request.match_info
        return Frame(
            id=self.id,
            created=int(now_s()),
            model=self.model,
            fingerprint=f"fp_{key_digest(f'{self.settings.seed} {self.model}')[:10]}",
            service_tier=self._tier(),
            wants_usage=bool(options.get("include_usage")),
            padded=options.get("include_obfuscation") is not False,
            azure=azure,
        )

    def _events(self, choices: list[answers.Choice], counts: Counts) -> Iterable[shapes.Event]:
        chat = self.endpoint == "chat"
        told = shapes.usage(counts, self.delivery.fault, details=chat)
        return (shapes.chat_events if chat else shapes.completion_events)(self._frame(), choices, told)

    def _whole(self, choices: list[answers.Choice], prompts: list[str | list[int]], counts: Counts) -> bytes:
        fault = self.delivery.fault
        if self.endpoint == "embeddings":
            return orjson.dumps(
                shapes.embeddings_answer(self.model, self._vectors(prompts), counts.input, fault)
            )
        chat = self.endpoint == "chat"
        told = shapes.usage(counts, fault, details=chat)
        shape = shapes.chat_answer if chat else shapes.completion_answer
        return orjson.dumps(shape(self._frame(), choices, told))

    def _vectors(self, prompts: list[str | list[int]]) -> list[Any]:
        size = self.body.get("dimensions") or vectors.largest(self.model)
        found = [vectors.vector(self.settings.seed, self.model, prompt, size) for prompt in prompts]
        return [*map(vectors.as_base64, found)] if self.body.get("encoding_format") == "base64" else found

    def _note_departure(self) -> None:
        if not self.memory.is_stopping:
            departure = Departure(self.id, self.model, now_s(), monotonic_s(), self.progress.chunks)
            self.memory.departed.add(departure)

    def _settle(self, counts: Counts) -> None:
        progress = self.progress
        reasoning = counts.reasoning
        output = counts.billed_output if progress.complete else progress.output_tokens
        if self.stream and not progress.complete:
            # Thinking comes before the first event; what was never begun is not billed.
            reasoning = reasoning if progress.chunks else 0
            output += reasoning
        elif not progress.complete:
            reasoning = min(reasoning, output)
        entry = Entry(
            id=self.id,
            request_id=self.headers.get("x-request-id") or self.headers["request-id"],
            time_s=now_s(),
            endpoint=self.endpoint,
            model=self.model,
            input_tokens=counts.input,
            output_tokens=output,
            cached_input_tokens=counts.cached,
            reasoning_tokens=reasoning,
            api_key_sha256=key_digest(self.key),
            stream=self.stream,
            finished=progress.complete,
            fault=self.delivery.fault,
            service_tier=self._tier(),
        )
        self.memory.bill.add(entry)
        self.memory.billed.add(entry)
