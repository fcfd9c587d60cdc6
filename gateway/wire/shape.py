"""Reading what others wrote as JSON: the values of the right type, and one way to say which was of none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import WRONG_TYPE, GatewayError


def bad(field: str, must: str) -> GatewayError:
    """A field of a request has the wrong type; to be raised (400)."""
    return GatewayError(WRONG_TYPE, f"'{field}' must be {must}.", param=field)


def text(value: Any) -> str:
    """A string, "" for anything else."""
    return value if type(value) is str else ""


def table(value: Any) -> dict[str, Any]:
    """An object, {} for anything else."""
    return value if type(value) is dict else {}


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """The objects of a list; none of anything else."""
    if type(value) is list:
        for item in value:
            if type(item) is dict:
                yield item


def asked_objects(value: Any, field: str) -> list[dict[str, Any]]:
    """A request's list of objects; None is empty. Raises `GatewayError` (400)."""
    if value is None:
        return []
    if type(value) is not list:
        raise bad(field, "a list")
    for at, item in enumerate(value):
        if type(item) is not dict:
            raise bad(f"{field}[{at}]", "an object")
    return value


def asked_text(fields: Mapping[str, Any], name: str, where: str = "") -> str:
    """A request's string; None and a missing one are "". Raises `GatewayError` (400)."""
    value = fields.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise bad(where or name, "a string")
    return value


def counted(value: Any, most: int) -> int | None:
    """A whole number from 0 to `most`; None for anything else."""
    return value if type(value) is int and 0 <= value <= most else None
