"""`make fuzz`: every target for a while. A case is its seed: TARGET=name SEED=n runs it again."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass

from tests.fuzz import (
    targets_drift,
    targets_form,
    targets_http,
    targets_hub,
    targets_json,
    targets_line,
    targets_policy,
    targets_stream,
)
from tests.fuzz.target import Target, case

Targets = Mapping[str, Callable[[], Target]]

ALL: Targets = {
    each.name: each
    for module in (
        targets_stream,
        targets_form,
        targets_json,
        targets_policy,
        targets_http,
        targets_hub,
        targets_line,
        targets_drift,
    )
    for each in module.TARGETS
}
LONGEST_S = 1.0
"""CPU time of one case; above it something is worse than linear."""
HANGS_S = 20.0
"""A case that takes this long will not end: its seed is printed and the process ends."""
_SHOWN_BYTES = 4096


@dataclass(slots=True)
class Result:
    """What became of one target."""

    target: str
    execs: int = 0
    seconds: float = 0.0
    failed_seed: int | None = None
    failure: str = ""

    def __str__(self) -> str:
        rate = self.execs / self.seconds if self.seconds else 0.0
        end = "ok" if self.failed_seed is None else f"FAILED at seed {self.failed_seed}"
        return f"{self.target:12} {self.execs:9} execs {rate:9.0f}/s  {end}"


class Watchdog:
    """Ends the process if a case does not end: an endless loop in C takes no signal."""

    def __init__(self, hangs_s: float = HANGS_S) -> None:
        self._hangs_s = hangs_s
        self._began_s = 0.0
        self._words = ""
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, words: Callable[[], str]) -> None:
        """A case begins; `words` tell what it is."""
        self._words, self._began_s = words(), time.monotonic()

    def close(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(self._hangs_s / 20):
            if self._began_s and time.monotonic() - self._began_s > self._hangs_s:
                sys.stderr.write(f"{self._words}\n  it did not end within {self._hangs_s:g} s\n")
                os._exit(1)


def fuzz(target: Target, seeds: Callable[[int], int | None], watchdog: Watchdog) -> Result:
    """Cases until `seeds(how many there were)` is None, or one fails."""
    result = Result(target.name)
    began_s = time.monotonic()
    while (seed := seeds(result.execs)) is not None:
        data, draw = case(target, seed)
        watchdog.begin(lambda seed=seed, data=data: words_of(target, seed, data))  # type: ignore[misc]
        cpu_s = time.process_time()
        try:
            target.check(data, draw)
            cpu_s = time.process_time() - cpu_s
            assert cpu_s <= LONGEST_S, f"one case took {cpu_s:.1f} s of CPU"
        except Exception:
            result.failed_seed = seed
            result.failure = f"{words_of(target, seed, data)}\n{traceback.format_exc()}"
        result.execs += 1
        if result.failed_seed is not None:
            break
    result.seconds = time.monotonic() - began_s
    return result


def words_of(target: Target, seed: int, data: bytes) -> str:
    """Which case it is, its input, and how to run it again."""
    more = f" … ({len(data)} bytes)" if len(data) > _SHOWN_BYTES else ""
    again = f"make fuzz TARGET={target.name} SEED={seed}"
    return f"{target.name}: seed {seed}\n  input: {data[:_SHOWN_BYTES]!r}{more}\n  again: {again}"


def timed(first: int, seconds: float, say: Callable[[int], None]) -> Callable[[int], int | None]:
    """Seeds from `first` on until the time is up; `say` is told the count about once a second."""
    end_s = time.monotonic() + seconds
    next_s = 0.0

    def seed(count: int) -> int | None:
        nonlocal next_s
        now_s = time.monotonic()
        if now_s >= next_s:
            next_s = now_s + 1.0
            say(count)
        return None if now_s >= end_s else first + count

    return seed


def counted(first: int, count: int) -> Callable[[int], int | None]:
    """So many seeds from `first` on."""
    return lambda done: first + done if done < count else None


def main(arguments: list[str] | None = None, targets: Targets = ALL) -> int:
    """Exit status 0 if every target held, 1 if one did not, 2 for a target that is not there."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each target")
    parser.add_argument("--target", default="", help="only this one")
    parser.add_argument("--seed", type=int, help="run this one case again")
    parser.add_argument("--json", action="store_true", help="the results as JSON on stdout")
    options = parser.parse_args(arguments)
    if options.target and options.target not in targets:
        print(f"There is no target of that name; use one of: {', '.join(targets)}.", file=sys.stderr)
        return 2
    if options.seed is not None and not options.target:
        print("A seed belongs to a target: give TARGET=name too.", file=sys.stderr)
        return 2
    terminal = sys.stderr.isatty()
    results = []
    watchdog = Watchdog()
    for name in [options.target] if options.target else targets:
        with closing(targets[name]()) as target:
            if options.seed is not None:
                seeds = counted(options.seed, 1)
            else:

                def say(count: int, name: str = name) -> None:
                    if terminal:
                        sys.stderr.write(f"\r{name:12} {count:9} execs")
                        sys.stderr.flush()

                seeds = timed(random.SystemRandom().getrandbits(48), options.seconds, say)
            result = fuzz(target, seeds, watchdog)
        results.append(result)
        sys.stderr.write(("\r" if terminal else "") + f"{result}\n")
        if result.failure:
            sys.stderr.write(result.failure)
    watchdog.close()
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
