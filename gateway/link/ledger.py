"""The ledger link, worker ↔ keeper: what is said about money and limits, as messages.

Length-prefixed JSON in the frames of `link.frames`. A worker's exchange is resent after a reconnect, with
its number, until it is answered; nothing is dropped.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson

from gateway.quota.contract import Exchange, Recall, Refusal, Reply, Terms, Want

OWNER = 32
"""worker → keeper {"owner", "epoch", "journal": path, "got": {bucket: given in all}, "seq": of the last
exchange that it sent}: the first message."""
EXCHANGE, ANSWER = 33, 34
"""EXCHANGE worker → keeper: an `Exchange`; ANSWER keeper → worker: its `Reply`, or one for wants that were
parked (`seq` 0). Its `recalls` stay with the keeper."""
RECALL = 35
"""keeper → worker [seq, [bucket, …]]: shut them, return what is idle by answers up to `seq`, say so by an
exchange at once (`acks`). Nothing is due where a later answer had a slice."""
WET = 36
"""keeper → worker [bucket, …]: refusals by memory end; there may be something again."""
STORE = 37
"""keeper → worker, control {"up": bool, "why": str, "n"}: whether the store answers, and why it may not be
used ("" if it may). Sent after OWNER, after control's first QUERY, and at every change; `n` counts up."""
QUERY, PART, RESULT = 38, 40, 39
"""control → keeper {"n", "what", …}; keeper → control {"n", "rows": [row, …]}, as often as a long
list takes, and then {"n", "result": …} (of such a list: its last rows) or {"n", "error",
"wrong": true if what was asked for is not there}. `what`:

- "state" → {"up", "why"}
- "balances", `rule` ("" for all), `money` (true: budgets only) →
  [{"bucket", "terms": {…}, "spent", "held", "idle", "free"}, …]
- "spend", `by` [column, …], `since_ms`, `until_ms` → [{column: value, …}, …]
- "verify" → [sentence, …]
- "adjust", `bucket`, `amount`, `who`, `note` → the bucket's balance
- "reset", `rule`, `subject` ("" for all), `who`, `note` → the balances of the buckets that are full again"""


def encode(message: Exchange | Reply) -> bytes:
    """An exchange or a reply as JSON; empty fields are left out."""
    said = {
        field.name: value
        for field in fields(message)
        if (value := getattr(message, field.name)) or value == 0
    }
    return orjson.dumps(said, default=tuple, option=orjson.OPT_NON_STR_KEYS)


def exchange_of(payload: bytes) -> Exchange:
    """An exchange that was encoded."""
    said: dict[str, Any] = orjson.loads(payload)
    if "terms" in said:
        said["terms"] = {bucket: Terms(*terms) for bucket, terms in said["terms"].items()}
    if "wants" in said:
        said["wants"] = [Want(*want) for want in said["wants"]]
    return Exchange(**said)


def reply_of(payload: bytes) -> Reply:
    """A reply that was encoded."""
    said: dict[str, Any] = orjson.loads(payload)
    if "refused" in said:
        said["refused"] = [Refusal(*refusal) for refusal in said["refused"]]
    if "parked" in said:
        said["parked"] = {int(want): buckets for want, buckets in said["parked"].items()}
    if "recalls" in said:
        said["recalls"] = {
            bucket: [Recall(*each) for each in asked] for bucket, asked in said["recalls"].items()
        }
    if "edited" in said:
        said["edited"] = {bucket: Terms(*terms) for bucket, terms in said["edited"].items()}
    return Reply(**said)
