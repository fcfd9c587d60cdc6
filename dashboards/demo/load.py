"""Callers of the demonstration: calls of four keys at a steady rate, some of which go wrong on purpose.

Standard library only, for it runs in the gateway's own image. HEADGATE_URL is the gateway's OpenAI base URL,
CALLS_PER_S the rate (4), SECONDS when to stop (0: never).
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

KEYS = {
    name: f"hg-{name}-for-the-demo-only-do-not-deploy"
    for name in ("search-web", "search-batch", "support-bot", "lab-notebook")
}
MODELS = {
    "search-web": ("chat", "small", "small", "embed"),
    "search-batch": ("small", "embed"),
    "support-bot": ("chat", "think"),
    "lab-notebook": ("chat", "small", "think", "experiment"),
}
FAULTS = ("status_500", "status_503", "status_429", "status_400", "close", "cut", "stall")
FAULTY, WRONG, LEAVING = 0.06, 0.02, 0.03
"""Shares of calls with a fault of the provider's, with a mistake of the caller's, of callers that leave."""
MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent, and how much of the answer is read."""

    path: str
    key: str
    fields: dict[str, Any]
    leaves: bool = False


def draw(chance: random.Random) -> Call:
    """One call of any kind."""
    name = chance.choices(list(KEYS), (5, 3, 2, 1))[0]
    model = chance.choice(MODELS[name])
    lot = chance.random()
    key = KEYS[name]
    if lot < WRONG:
        model, key = chance.choice(
            (("no-such-model", key), (model, "hg-nobody"), ("think", KEYS["search-web"]))
        )
    if model == "embed":
        return Call("/embeddings", key, {"model": model, "input": "river " * chance.randrange(1, 400)})
    # Every fourth prompt is long enough for the provider's cache. None is as another: repeats tell nothing of
    # drift.
    words = chance.choice((5, 20, 80, 1200))
    fields: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "Where is the river? " * words + f"Of {chance.random()}?"}],
        "max_tokens": chance.choice((50, 200, 800)),
        "stream": chance.random() < 0.6,
    }
    if WRONG < lot < WRONG + FAULTY:
        # The second target of a call is spared as often as not.
        fault = {"fault": chance.choice(FAULTS), "fault_after_chunks": chance.randrange(5)}
        spared = {"big": {"fault": "none"}} if chance.random() < 0.5 else {}
        fields["simulate"] = {**fault, "by_model": spared}
    return Call("/chat/completions", key, fields, leaves=lot > 1 - LEAVING)


def send(url: str, call: Call) -> None:
    """Sends it and reads the answer to its end, or leaves half-way."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    headers = {"authorization": f"Bearer {call.key}", "content-type": "application/json"}
    try:
        connection.request("POST", where.path + call.path, json.dumps(call.fields), headers)
        answer = connection.getresponse()
        answer.read(100 if call.leaves else None)
    except (OSError, http.client.HTTPException):
        pass  # What became of it is what the dashboards show.
    finally:
        connection.close()


def run(url: str, calls_per_s: float, seconds: float, seed: int = 1) -> None:
    """Calls at this rate; one that finds no room among those under way is left out."""
    chance = random.Random(seed)
    room = threading.BoundedSemaphore(MOST_AT_ONCE)

    def one(call: Call) -> None:
        try:
            send(url, call)
        finally:
            room.release()

    start_s = time.monotonic()
    sent = 0
    while not seconds or time.monotonic() < start_s + seconds:
        sent += 1
        time.sleep(max(0.0, start_s + sent / calls_per_s - time.monotonic()))
        call = draw(chance)
        if room.acquire(blocking=False):
            threading.Thread(target=one, args=(call,), daemon=True).start()


if __name__ == "__main__":
    run(
        os.environ.get("HEADGATE_URL", "http://headgate:8080/v1"),
        float(os.environ.get("CALLS_PER_S", "4")),
        float(os.environ.get("SECONDS", "0")),
    )
