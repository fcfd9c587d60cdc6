"""Money is whole nano-dollars (10^-9 USD); prices are whole pico-dollars (10^-12 USD) per token.

A price of $0.15 per million tokens is 150,000 pico-dollars per token, so the cheapest published
prices (about $0.01 per million) still are whole numbers.
"""

from __future__ import annotations

import re

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000
_DECIMAL = re.compile(r"([+-]?)([0-9]{1,10})(?:\.([0-9]{1,9}))?")


def line_nanousd(tokens: int, price_pico: int) -> int:
    """Cost of one line of a bill, rounded up to the next nano-dollar."""
    return -(-tokens * price_pico // PICO_PER_NANO)


def usd(nanousd: int) -> bytes:
    """Nano-dollars as dollars with all nine decimals, nothing rounded: 1_500_000 → b"0.001500000"."""
    return b"%d.%09d" % divmod(nanousd, NANO_PER_USD)


def usd_text(nanousd: int, places: int = 2) -> str:
    """Nano-dollars as dollars for people: exact, with at least `places` decimals, the zeros after them left
    out. 12_500_000_000 → "12.50", 1_250 → "0.00000125", -5 → "-0.000000005"."""
    whole, fraction = divmod(abs(nanousd), NANO_PER_USD)
    digits = f"{fraction:09d}".rstrip("0").ljust(places, "0")
    sign = "-" if nanousd < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def nanousd_of(text: str) -> int | None:
    """Whole nano-dollars of a decimal number of dollars, like "12.5" or "-0.000000001"; None if it is no such
    number, or finer than a nano-dollar."""
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        return None
    sign, whole, fraction = match.groups()
    amount = int(whole) * NANO_PER_USD + int((fraction or "").ljust(9, "0"))
    return -amount if sign == "-" else amount
