"""How likely the tokens of an answer were: the same objects in chat and in the Responses API, but for
`bytes`, which may be null in chat, must be a list in the other's whole answers, and is not in its streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.wire.shape import objects


def with_bytes(logprobs: Iterable[Mapping[str, Any]], unknown: list[int] | None) -> Iterator[dict[str, Any]]:
    """The same, with `unknown` where a token has no bytes."""
    for told in logprobs:
        others = [_with_bytes(other, unknown) for other in objects(told.get("top_logprobs"))]
        yield _with_bytes(told, unknown) | {"top_logprobs": others}


def _with_bytes(told: Mapping[str, Any], unknown: list[int] | None) -> dict[str, Any]:
    return {**told, "bytes": told["bytes"] if type(told.get("bytes")) is list else unknown}
