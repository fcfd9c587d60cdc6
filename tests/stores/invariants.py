"""The invariants of a book: `escrow.md` 1, I1 to I4."""

from __future__ import annotations

from gateway.quota.book import Book
from gateway.quota.contract import RATE, ROLLING


def broken(book: Book) -> list[str]:
    """What must hold after every step and does not , one sentence each."""
    wrong = []
    for bucket in book.buckets.values():
        outs, terms = bucket.outs.values(), bucket.terms
        if bucket.out != sum(out.out for out in outs) or any(out.out < 0 for out in outs):
            wrong.append(f"{bucket.id}: out is {bucket.out}, owners have {[out.out for out in outs]}")
        if any(out.held > out.out or min(out.written.values(), default=1) <= 0 for out in outs):
            wrong.append(f"{bucket.id}: more is held than out, or a written-off amount is not positive")
        if bucket.is_money and bucket.spent + bucket.total != terms.limit + bucket.adjusted:
            wrong.append(f"{bucket.id}: {bucket.spent} spent + {bucket.total} is not {terms.limit}")
        if terms.kind == ROLLING and sum(bucket.parts.values()) != bucket.spent - bucket.adjusted:
            wrong.append(f"{bucket.id}: its slices do not add up to {bucket.spent}")
        if terms.kind == RATE and bucket.total > terms.burst:
            wrong.append(f"{bucket.id}: total {bucket.total} is above its burst")
    return wrong
