"""How owners share a bucket: slices ahead of need, and recalls before a refusal."""

from __future__ import annotations

from gateway.quota.bucket import ASKED_MS, Bucket, Out

SHARE = 2
"""A slice is at most this part of an owner's equal share of what is free (1, 2, 4 and 8 measured alike)."""
HOLDS_TO_OPEN = 4
"""A purse opens when its share is as many typical holds: below that it is emptied before it pays."""
WAIT_MS = 50
"""How long a parked want keeps its buckets from being sliced, if nobody asks again: above any recall's
deadline (25 ms)."""


def owners(bucket: Bucket, now_ms: int) -> int:
    """Who asked for a bucket lately; at least 1."""
    return max(1, sum(now_ms - out.asked_ms <= ASKED_MS for out in bucket.outs.values()))


def slice_of(bucket: Bucket, out: Out, wish: int, now_ms: int) -> int | None:
    """What an owner gets of its wish; None: its purse is, or stays, shut. Never while somebody waits, and
    nothing of what tickets promise."""
    if bucket.is_waited_for(now_ms):
        return 0 if out.open else None
    free = max(0, bucket.free - bucket.tickets.owed)
    most = free // (SHARE * owners(bucket, now_ms))
    hold = max(1.0, bucket.hold)
    if not out.open and most < HOLDS_TO_OPEN * hold:
        return None
    given = min(wish, most)
    return given if given >= hold else 0


def recall(bucket: Bucket, asker: str, now_ms: int) -> list[str] | None:
    """The owners that hold something idle in open purses, to be shut; the bucket is waited for. None: there
    is nothing to wait for."""
    holders = [key for key, out in bucket.outs.items() if key != asker and out.open and out.out > out.held]
    if not holders and not bucket.is_waited_for(now_ms):
        return None
    bucket.waits[asker] = now_ms + WAIT_MS
    return holders
