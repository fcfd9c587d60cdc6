"""What a provider said of a failure, as its caller may hear it: short, and without our secrets.

OpenAI masks a key that it quotes ("Incorrect API key provided: sk-ab****yz"); others do not, and proxies on
the way quote whole headers. Asked for when a call or a stream has failed for good, so answers pay nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gateway.errors import ProviderError
from gateway.policy.snapshot import Provider

MAX_MESSAGE = 4096
HIDDEN = "***"


def as_told(error: ProviderError, provider: Provider) -> ProviderError:
    """The error with every secret of the provider hidden, in all of its fields."""
    secrets = provider.secrets
    try:
        details = _hide(error.details, secrets)
    except RecursionError:
        # Nested more deeply than could be written.
        details = {}
    return replace(
        error,
        # Cut afterwards: half a secret would be found no more.
        message=_hide(error.message, secrets)[:MAX_MESSAGE],
        type=_hide(error.type, secrets),
        code=_hide(error.code, secrets),
        param=_hide(error.param, secrets),
        details=details,
    )


def _hide(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, dict):
        return {_hide(name, secrets): _hide(inside, secrets) for name, inside in value.items()}
    if isinstance(value, list):
        return [_hide(inside, secrets) for inside in value]
    return value
