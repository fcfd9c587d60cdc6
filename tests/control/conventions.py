"""The attributes that OpenTelemetry's GenAI and HTTP conventions have for what Headgate tells: v1.41, and of
the next version `cache_write`, `reasoning.level` and the dimensions of embeddings; and ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Names:
    """Attributes with their types; those of `required` must be there."""

    types: dict[str, type]
    required: frozenset[str]

    def check(self, told: dict[str, Any]) -> None:
        """Nothing else is told, and nothing in another type."""
        assert self.required <= told.keys(), self.required - told.keys()
        wrong = {name: value for name, value in told.items() if type(value) is not self.types.get(name)}
        assert wrong == {}


def _typed(**names: str) -> dict[str, type]:
    types = {"text": str, "whole": int, "real": float, "truth": bool, "texts": list}
    return {name: types[kind] for kind, of_kind in names.items() for name in of_kind.split()}


CALL = Names(
    _typed(
        text="gen_ai.operation.name gen_ai.provider.name gen_ai.request.model gen_ai.response.model "
        "error.type gen_ai.output.type gen_ai.request.reasoning.level server.address openai.api.type "
        "openai.request.service_tier openai.response.service_tier gen_ai.input.messages "
        "gen_ai.output.messages headgate.request_id headgate.team headgate.key headgate.policy "
        "headgate.outcome headgate.model headgate.target headgate.usage_source",
        whole="gen_ai.request.choice.count gen_ai.request.seed gen_ai.request.top_k "
        "gen_ai.request.max_tokens gen_ai.usage.input_tokens gen_ai.usage.output_tokens "
        "gen_ai.usage.cache_read.input_tokens gen_ai.usage.cache_write.input_tokens "
        "gen_ai.usage.reasoning.output_tokens server.port "
        "gen_ai.embeddings.dimension.count headgate.attempts",
        real="gen_ai.request.temperature gen_ai.request.top_p gen_ai.request.frequency_penalty "
        "gen_ai.request.presence_penalty gen_ai.response.time_to_first_chunk headgate.cost_usd",
        truth="gen_ai.request.stream headgate.content_too_long",
        texts="gen_ai.response.finish_reasons",
    ),
    frozenset({"gen_ai.operation.name", "gen_ai.provider.name", "headgate.team", "headgate.request_id"}),
)
ATTEMPT = Names(
    _typed(
        text="http.request.method url.full server.address error.type headgate.target",
        whole="server.port http.response.status_code http.request.resend_count",
    ),
    frozenset({"http.request.method", "url.full", "server.address", "server.port"}),
)
_GEN_AI = (
    "gen_ai.operation.name gen_ai.provider.name gen_ai.original.model gen_ai.request.model "
    "gen_ai.response.model"
)
_OF_METRICS = frozenset({"gen_ai.operation.name", "gen_ai.provider.name"})
METRICS = {
    "gen_ai.client.token.usage": Names(
        _typed(text=f"{_GEN_AI} gen_ai.token.type"), _OF_METRICS | {"gen_ai.token.type"}
    ),
    "gen_ai.client.operation.duration": Names(_typed(text=f"{_GEN_AI} error.type"), _OF_METRICS),
    "gen_ai.server.request.duration": Names(_typed(text=f"{_GEN_AI} error.type"), _OF_METRICS),
}
"""`gen_ai.original.model` is no name of the conventions: other AI gateways have it for the caller's name."""
