"""The worker process: runs the line and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from gateway.clock import now_s
from gateway.errors import SHED_FOR, STOPPING, GatewayError, Kind
from gateway.http.caller import CallerConnection
from gateway.http.message import Request, status_line
from gateway.http.server import CallerServer
from gateway.http.wheel import Wheel
from gateway.line.exchange import Exchange
from gateway.line.health import TargetHealth
from gateway.line.limits import Free, Governed, Ledger
from gateway.line.observe import Kept, refusal_record
from gateway.line.outbound import Outbound, target_lines
from gateway.line.pipeline import begin
from gateway.line.teller import Teller
from gateway.line.tracing import Untraced, tracer_of
from gateway.line.watching import Unwatched, watched_of
from gateway.link.journal import Journal
from gateway.link.keeper_link import KeeperLink
from gateway.link.target_table import TargetTable
from gateway.link.worker_end import ControlLink
from gateway.policy.snapshot import Key, Model, Provider, ProviderKey, Snapshot, Target
from gateway.quota.purses import Purses
from gateway.routing.retry import RetryBudget
from gateway.telemetry.diagnostics import report_escaped, say
from gateway.telemetry.meters import Meters
from gateway.telemetry.pulse import Pulse
from gateway.telemetry.slots import SlotFile
from gateway.wire.dialects.openai_chat import error_body

MAX_CALLS = 8192
"""Calls under way per worker; above it new ones get 503 before their body is read."""
REQUESTS_PER_CONNECTION = 1000
"""With several workers a connection is closed politely after this many requests: few long-lived
connections share badly over SO_REUSEPORT (busiest of 8 workers 1.8 times the mean)."""
POLICY_S = 5.0
"""How long a worker waits for its first policy before it takes calls: what is queued at its socket is then
served and not refused. Not for ever: a caller who is told 503 goes elsewhere."""
STORE_S = 2.0
"""How long it then waits for the store of limits and budgets, if the policy has any."""


Ask = Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], Callable[[], None]]
"""`ControlLink.ask`."""


class Line:
    """What all calls of one worker share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: SlotFile,
        table: TargetTable,
        worker: int,
        ledger: Ledger,
    ) -> None:
        self.wheel = Wheel(loop)
        self.meters = Meters(slots)
        self.health = TargetHealth(table, worker, self.wheel)
        self.workers = table.workers
        self.outbound = Outbound(self.wheel)
        self.ledger = ledger
        self.limits: Free | Governed = Free()
        """Chosen with each policy."""
        self.exchanges: set[Exchange] = set()
        self.snapshot: Snapshot | None = None
        self.has_policy = asyncio.Event()
        self.log: Callable[[bytes], None] = _nowhere
        self.trace: Callable[[bytes], None] = _nowhere
        self.answer: Callable[[bytes], None] = _nowhere
        self.tracer = Untraced()
        self.watched = Unwatched()
        """Chosen with each policy, as `limits` is."""
        self.ask: Ask = _nobody
        self.kept: dict[tuple[Key, Model, Target, str], Kept] = {}
        """What calls need when they end, by key, model, target and endpoint of the policy in force."""
        self.max_calls = MAX_CALLS
        self._prepared: dict[str, Snapshot] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._turns: dict[str, int] = {}
        self._key_turn = 0

    # policy

    def prepare(self, tables: Mapping[str, Any]) -> None:
        """Builds a snapshot beside the one in force. Raises whatever is wrong with the tables."""
        # First: an earlier one may have the same hash and other secrets.
        self._prepared = {}
        snapshot = Snapshot.from_tables(tables)
        self._prepared = {snapshot.hash: snapshot}

    def switch(self, hash_: str) -> None:
        """Puts a prepared snapshot in force: one assignment. Calls under way keep the one they began with."""
        snapshot = self._prepared[hash_]
        targets = [target for model in snapshot.models.values() for target in model.targets]
        rows = [target.row for target in targets]
        rows += [key.row for provider in snapshot.providers for key in provider.keys]
        keys = {target.row: tuple(key.row for key in target.provider.keys) for target in targets}
        self.health.watch(rows, keys)
        self.outbound.switch(snapshot)
        self.kept = {}
        self.ledger.purses.switch({rule.name: rule.terms(snapshot.stamp) for rule in snapshot.rules})
        self.tracer = tracer_of(snapshot.traces, self.meters, self.trace)
        self.watched = watched_of(snapshot.watching, self.workers, self.meters, self.answer)
        self.limits = Governed(snapshot, self.ledger, self.meters) if snapshot.rules else Free()
        self.ledger.teller.hurry()
        models = snapshot.models
        self._budgets = {name: budget for name, budget in self._budgets.items() if name in models}
        self._turns = {name: turn for name, turn in self._turns.items() if name in models}
        self.snapshot = snapshot
        self.has_policy.set()

    # what calls ask

    def begin(self, caller: CallerConnection, request: Request) -> None:
        begin(self, caller, request)

    def refusal(self, kind: Kind) -> bytes:
        """A whole answer for what is not even a request."""
        body = error_body(GatewayError(kind))
        request_id = f"{random.getrandbits(128):032x}"
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            f"x-headgate-request-id: {request_id}\r\nconnection: close\r\n"
        )
        self.meters.failed("_none", "_none", "_none", "_none", "refused", kind.error_type)
        self.shed(kind)
        self.log(refusal_record(request_id, kind.status, kind.error_type))
        return status_line(kind.status) + head.encode() + b"\r\n" + body

    def is_overloaded(self) -> bool:
        """True if a new call must be shed."""
        return len(self.exchanges) > self.max_calls

    def shed(self, kind: Kind) -> None:
        """Counts what is refused because there is too much to do."""
        reason = SHED_FOR.get(kind)
        if reason is not None:
            self.meters.shed(reason)

    def turn(self, model: str) -> int:
        """How many calls of a model came before; names that are no model's (of aliases) share a count."""
        name = model if self.snapshot is not None and model in self.snapshot.models else ""
        turn = self._turns[name] = self._turns.get(name, -1) + 1
        return turn

    def retry_budget(self, model: str) -> RetryBudget:
        """The retries of a model."""
        budget = self._budgets.get(model)
        if budget is None:
            budget = self._budgets[model] = RetryBudget()
        return budget

    def provider_key(self, provider: Provider, refused: frozenset[ProviderKey]) -> ProviderKey | None:
        """The key for the next attempt: in turn among those that are good. None: the provider has no keys."""
        keys = provider.keys
        if len(keys) < 2:
            return keys[0] if keys else None
        self._key_turn += 1
        order = [keys[(self._key_turn + place) % len(keys)] for place in range(len(keys))]
        good = [key for key in order if key not in refused and self.health.down.get(key.row) != 0]
        return (good or [key for key in order if key not in refused] or order)[0]

    def has_other_key(self, provider: Provider, refused: frozenset[ProviderKey]) -> bool:
        """True if the provider has a good key that was not refused in this call."""
        return any(key not in refused and self.health.down.get(key.row) != 0 for key in provider.keys)

    def target_lines(self, target: Target, snapshot: Snapshot | None) -> bytes:
        """The constant headers of a target's answers; also of a policy that is no longer in force."""
        return self.outbound.target_lines.get(target) or target_lines(target, snapshot)


def _nowhere(line: bytes) -> None:
    """Before the link to control stands there is nobody to log to."""


def _nobody(question: dict[str, Any], told: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Nor anybody to ask."""
    return lambda: None


class Ending:
    """How far a worker is on its way to its end; the supervisor's signals move it on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Line, callers: CallerServer) -> None:
        self.finish = asyncio.Event()
        self.cut = asyncio.Event()
        self._line = line
        self._callers = callers
        loop.add_signal_handler(signal.SIGUSR1, self._be_polite)
        loop.add_signal_handler(signal.SIGTERM, self._finish)
        loop.add_signal_handler(signal.SIGUSR2, self._cut)
        # A terminal's Ctrl-C reaches all processes; the supervisor alone decides what it means.
        loop.add_signal_handler(signal.SIGINT, lambda: None)

    def _be_polite(self) -> None:
        """From now on every answer closes its connection and says so. Those whose head is written cannot say
        so any more: their connections stay, for a caller may be using one again at this moment."""
        self._callers.closing = True
        for exchange in self._line.exchanges:
            if not exchange.first_written_s:
                exchange.request.keep_alive = False

    def _finish(self) -> None:
        self._be_polite()
        self.finish.set()

    def _cut(self) -> None:
        self._finish()
        self.cut.set()


async def run(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, then finishes what is under way, in `--max-stream` at most or until SIGUSR2."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(report_escaped)
    slots = SlotFile.open(options.slots)
    slots.zero_gauges()
    owner, epoch = f"worker-{options.index}", int(now_s() * 1000)
    journal = Journal(Path(options.journals), owner, epoch)
    purses = Purses(journal)
    teller = Teller(loop, purses)
    line = Line(loop, slots, TargetTable.open(options.targets), options.index, Ledger(purses, teller))
    link = ControlLink(
        options.control_socket,
        options.index,
        line.prepare,
        line.switch,
        line.meters.log_dropped,
        line.meters.trace_dropped,
        line.meters.answer_dropped,
    )
    line.log, line.trace, line.answer, line.ask = link.log, link.trace, link.answer, link.ask
    keeper = KeeperLink(options.keeper_socket, owner, epoch, str(journal.path), teller)
    teller.join(keeper)
    workers = TargetTable.open(options.targets).workers
    callers = CallerServer(
        line,
        line.wheel,
        max_requests=REQUESTS_PER_CONNECTION if workers > 1 else 0,
        max_connections=most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        max_connections_per_address=options.max_connections_per_address,
    )
    ending = Ending(loop, line, callers)
    pulse = Pulse(
        loop,
        slots,
        "worker",
        lambda: line.meters.under_way(len(line.exchanges), len(callers.connections)),
    )
    loop.add_reader(options.life_fd, os._exit, 1)
    await link.start()
    await keeper.start()
    await _first(POLICY_S, line.has_policy, ending.finish)
    if isinstance(line.limits, Governed):
        # Budgets are closed while there is no store: at the start it is only late.
        await _first(STORE_S, teller.has_store, ending.finish)
    listener = socket.socket(fileno=options.listen_fd)
    listener.setblocking(False)
    queue = listener.dup()
    server = await loop.create_server(callers, sock=listener, backlog=2048)
    # Everything made so far lives as long as the process: the collector need not look at it again. A call
    # leaves no cycles, so the collector may come seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    await ending.finish.wait()
    server.close()
    await _take_queued(loop, queue, callers)
    await _finish(line, callers, ending, options.max_stream)
    pulse.stop()
    teller.close()
    await keeper.close()
    journal.close()
    await link.close()
    line.health.close()
    line.outbound.close()
    line.wheel.close()


async def _take_queued(loop: asyncio.AbstractEventLoop, queue: socket.socket, callers: CallerServer) -> None:
    """Takes the connections that wait at a socket, which closes with its last descriptor, `queue`: the kernel
    would reset them."""
    waiting = []
    with queue, suppress(OSError):
        while True:
            waiting.append(queue.accept()[0])
    for connection in waiting:
        with suppress(OSError):
            await loop.connect_accepted_socket(callers, connection)


async def _finish(line: Line, callers: CallerServer, ending: Ending, max_stream_s: float) -> None:
    """Waits for the calls under way; those that take too long, or all at SIGUSR2, end with an error."""
    callers.drain()
    await _first(max_stream_s, callers.empty, ending.cut)
    if not callers.empty.is_set():
        say(f"cut {len(line.exchanges)} calls that were not finished")
        for exchange in list(line.exchanges):
            exchange.fail(GatewayError(STOPPING))
        # Their answers, that is: what is written must get out.
        await _first(callers.times.linger_s + 0.5, callers.empty)


async def _first(timeout_s: float, *events: asyncio.Event) -> None:
    """Waits for the first of some events, or until the time is up."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def most_connections(open_files: int) -> int:
    """Connections of callers that leave room for those to providers, within the limit of open files: one
    for each call that may be under way."""
    left = open_files - 128
    return max(64, min(16_384, max(left // 2, left - MAX_CALLS)))


def main(arguments: list[str] | None = None) -> None:
    """Started by the supervisor with everything it needs as flags."""
    parser = argparse.ArgumentParser(prog="headgate-worker")
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--control-socket", required=True)
    parser.add_argument("--keeper-socket", required=True)
    parser.add_argument("--journals", required=True)
    parser.add_argument("--slots", required=True)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--life-fd", type=int, required=True)
    parser.add_argument("--max-connections-per-address", type=int, default=0)
    parser.add_argument("--max-stream", type=float, required=True)
    uvloop.run(run(parser.parse_args(arguments)))
    sys.exit(0)


if __name__ == "__main__":
    main()
