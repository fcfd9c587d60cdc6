"""What the simulator remembers: what it was asked, who left, what it billed, which prompts it saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.simulator.bill import Bill, Entry
from gateway.simulator.faults import Fault
from gateway.simulator.settings import Scripts, Settings
from gateway.simulator.witness import Captured, Departure, Seen

_REMEMBERED_PROMPTS = 10_000


class Memory:
    """All state of one simulated provider. Raises `OSError` if the bill cannot be opened."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bill = Bill(settings.bill, settings.max_requests)
        self.requests: Seen[Captured] = Seen(settings.max_requests)
        self.departed: Seen[Departure] = Seen(settings.max_requests)
        """Callers that left before their answer was complete: `await simulator.departed.wait()`."""
        self.billed: Seen[Entry] = Seen(settings.max_requests)
        """The entries of the bill, to be waited for."""
        self.calls = 0
        """Calls for an answer so far, refused and failed ones included."""
        self.is_stopping = False
        """True once answers break off because the simulator stops: nobody departed then."""
        self.scripts = Scripts(settings.script)
        self._prompts: dict[tuple[str, bytes], None] = {}

    def script(self, faults: Iterable[Fault | str | None], model: str | None = None) -> None:
        """What happens to the next calls (for a model), one entry each; None is a good answer."""
        self.scripts.replace([Fault.read(fault) for fault in faults], model)

    def was_seen(self, model: str, prompt: bytes) -> bool:
        """Whether this prompt was asked of this model before; remembers it."""
        known = model, hashlib.sha256(prompt).digest()
        seen = known in self._prompts
        self._prompts.pop(known, None)
        self._prompts[known] = None
        if len(self._prompts) > _REMEMBERED_PROMPTS:
            del self._prompts[next(iter(self._prompts))]
        return seen
