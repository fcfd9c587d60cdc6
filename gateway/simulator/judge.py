"""What a provider refuses by itself: shapes and ranges of parameters, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.simulator import tokens
from gateway.simulator.faults import Refusal
from gateway.simulator.vectors import largest

_BAD = "invalid_request_error"

_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 128),
    "best_of": (1, 20),
    "max_tokens": (1, 2**31),
    "max_completion_tokens": (1, 2**31),
}
_WHOLE = frozenset({"n", "best_of", "max_tokens", "max_completion_tokens"})


class RefusedError(Exception):
    """The request is answered with this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refuse(status: int, message: str, *, code: str | None = None, param: str | None = None) -> RefusedError:
    """A refusal of type `invalid_request_error`, to be raised."""
    return RefusedError(Refusal(status, _BAD, code, message, param))


def check(endpoint: str, body: Mapping[str, Any]) -> None:
    """Raise `RefusedError` for what OpenAI would refuse about the body of a call."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refuse(400, "you must provide a model parameter")
    for name, (least, most) in _RANGES.items():
        _check_range(name, body.get(name), least, most)
    if endpoint == "chat":
        _check_messages(body.get("messages"))
    elif endpoint == "embeddings":
        _check_embeddings(body)
    elif body.get("prompt") is not None:
        _inputs(body["prompt"], "prompt")
    if endpoint != "embeddings" and body.get("stream_options") is not None and not body.get("stream"):
        raise refuse(
            400,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )


def _check_range(name: str, value: Any, least: float, most: float) -> None:
    if value is None:
        return
    kind = "integer" if name in _WHOLE else "decimal"
    if isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else int | float):
        raise refuse(400, f"Invalid type for '{name}': expected a number.", code="invalid_type", param=name)
    if value < least:
        message = f"Invalid '{name}': {kind} below minimum value. Expected >= {least}, got {value}."
        raise refuse(400, message, code=f"{kind}_below_min_value", param=name)
    if value > most:
        message = f"Invalid '{name}': {kind} above maximum value. Expected <= {most}, got {value}."
        raise refuse(400, message, code=f"{kind}_above_max_value", param=name)


def _check_messages(messages: Any) -> None:
    if messages is None:
        raise refuse(
            400,
            "Missing required parameter: 'messages'.",
            code="missing_required_parameter",
            param="messages",
        )
    if not isinstance(messages, list):
        message = "Invalid type for 'messages': expected an array of objects."
        raise refuse(400, message, code="invalid_type", param="messages")
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise refuse(400, message, code="empty_array", param="messages")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            param = f"messages[{at}].role"
            raise refuse(
                400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
            )


def _check_embeddings(body: Mapping[str, Any]) -> None:
    _inputs(body.get("input"), "input")
    dimensions, most = body.get("dimensions"), largest(body["model"])
    if dimensions is not None and (type(dimensions) is not int or not 1 <= dimensions <= most):
        message = f"Invalid value for 'dimensions': must be a whole number from 1 to {most}."
        raise refuse(400, message, param="dimensions")
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise refuse(
            400, "Invalid value for 'encoding_format': 'float' or 'base64'.", param="encoding_format"
        )


def _inputs(value: Any, name: str) -> None:
    try:
        good = all(tokens.inputs(value))
    except ValueError:
        good = False
    if not good:
        raise refuse(
            400, f"Invalid '{name}': expected text, token ids or a list of these, not empty.", param=name
        )
