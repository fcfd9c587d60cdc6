"""The single values of limits and budgets: amounts, rates, money, windows, time zones. How each is written,
what it becomes. A message never repeats a value, as in `policy.values`.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.policy import duration
from gateway.policy.problem import did_you_mean
from gateway.policy.values import Share, no_bool

MOST = 9_000_000_000_000
"""The largest amount of a limit: times the milliseconds of a minute it is below 2^63, times 1,000 below 2^53
(what Redis's Lua counts exactly)."""
MOST_USD = 9_000_000
"""Below 2^53 nano-dollars, which are 9,007,199 USD."""
LONGEST_RATE_S = 31 * 86_400
LONGEST_ROLLING_S = 366 * 86_400

_AMOUNT = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,16})?) *([km]?)", re.IGNORECASE)
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}
_PER = re.compile(r"([0-9]{0,7}) *(s|sec|min|h|hour|day)")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "day": 86_400}
_ZONE = re.compile(r"[A-Z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}")


def _amount(value: Any) -> int:
    """A whole number of "600", "200k", "1.5m" or 600."""
    match = None if isinstance(value, bool) else _AMOUNT.fullmatch(str(value).strip())
    amount = Decimal(match[1]) * _TIMES[match[2].lower()] if match else Decimal(0)
    if amount != int(amount) or not 1 <= amount <= MOST:
        raise ValueError("must be a whole number from 1 to 9 million millions, like 600, 200k or 1.5m")
    return int(amount)


def _rate(value: Any) -> tuple[int, int]:
    """(amount, milliseconds) of "600/min", "1.5m/day" or "100/10s"."""
    amount, slash, per = str(value).partition("/")
    match = _PER.fullmatch(per.strip())
    if not slash or match is None:
        raise ValueError(
            'must be an amount per time, like "600/min", "200k/min" or "100/10s"; times are s, min, h and day'
        )
    seconds = int(match[1] or 1) * _SECONDS[match[2]]
    if not 1 <= seconds <= LONGEST_RATE_S:
        raise ValueError("must be per a time between 1s and 31day")
    return _amount(amount), seconds * 1000


def _usd(value: Any) -> Decimal:
    """US dollars to the nano-dollar."""
    message = "must be a number of US dollars above 0 and up to 9,000,000, with at most nine decimals"
    try:
        usd = Decimal("NaN" if isinstance(value, bool) else str(value))
    except InvalidOperation:
        raise ValueError(message) from None
    if not usd.is_finite() or not 0 < usd <= MOST_USD or usd != usd.quantize(Decimal("1e-9")):
        raise ValueError(message)
    return usd.normalize()


def _rolling(value: Any) -> int:
    """Milliseconds of "30d", "12h", "90m". Whole minutes: a sixtieth, by which it rolls, is whole seconds."""
    seconds = None if isinstance(value, bool) else duration.seconds(str(value))
    if seconds is None or seconds % 60 or not 60 <= seconds <= LONGEST_ROLLING_S:
        raise ValueError('must be whole minutes between "1m" and "366d", like "90m", "24h" or "30d"')
    return int(seconds) * 1000


def _timezone(value: Any) -> str:
    """A name of the time zone database; `localtime`, which is another on each host, is none."""
    try:
        if isinstance(value, str) and _ZONE.fullmatch(value) and ZoneInfo(value):
            return value
    except (LookupError, OSError, ValueError):
        pass
    hint = did_you_mean(value, available_timezones()) if isinstance(value, str) else ""
    raise ValueError(f"must be a time zone like UTC or Europe/Berlin{hint}")


def _some(share: float) -> float:
    if share == 0:
        raise ValueError("must be above 0")
    return share


def _written(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


_AMOUNT_PATTERN = r"[0-9]+(\.[0-9]+)? *[kKmM]?"

Amount = Annotated[
    int,
    BeforeValidator(_amount),
    WithJsonSchema(
        {"type": ["string", "integer"], "pattern": f"^{_AMOUNT_PATTERN}$", "examples": [600, "200k", "1.5m"]}
    ),
]
Rate = Annotated[
    tuple[int, int],
    BeforeValidator(_rate),
    _written(
        rf"^{_AMOUNT_PATTERN} */ *[0-9]* *(s|sec|min|h|hour|day)$",
        "600/min",
        "200k/min",
        "1.5m/day",
        "100/10s",
    ),
]
"""(amount, milliseconds it is per)."""
Slots = Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(no_bool)]
"""Calls at once; 0 lets none through."""
Usd = Annotated[
    Decimal,
    BeforeValidator(_usd),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MOST_USD}),
]
Rolling = Annotated[int, BeforeValidator(_rolling), _written("^[0-9.]+(s|m|h|d)$", "24h", "30d")]
"""Milliseconds."""
Timezone = Annotated[
    str, BeforeValidator(_timezone), _written("^[A-Z]", "UTC", "Europe/Berlin", "America/New_York")
]
AlertShare = Annotated[Share, AfterValidator(_some)]
Tokens = Annotated[int, Field(ge=1, le=100_000_000), BeforeValidator(no_bool)]
