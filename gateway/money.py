"""Money is whole nano-dollars (10^-9 USD); prices are whole pico-dollars (10^-12 USD) per token.

A price of $0.15 per million tokens is 150,000 pico-dollars per token, so the cheapest published
prices (about $0.01 per million) still are whole numbers.
"""

from __future__ import annotations

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000


def line_nanousd(tokens: int, price_pico: int) -> int:
    """Cost of one line of a bill, rounded up to the next nano-dollar."""
    return -(-tokens * price_pico // PICO_PER_NANO)


def usd(nanousd: int) -> bytes:
    """Nano-dollars as dollars with all nine decimals, nothing rounded: 1_500_000 → b"0.001500000"."""
    return b"%d.%09d" % divmod(nanousd, NANO_PER_USD)
