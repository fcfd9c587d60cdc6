"""A worker as a process: it is given what it asks for, writes down what it holds, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.link.journal import Journal
from gateway.link.keeper_link import KeeperLink
from gateway.quota.contract import Exchange, Reply, Terms, Want
from tests.running import ROOT


def start_worker(
    socket: Path, journals: Path, owner: str, epoch: int, terms: Terms, **said: object
) -> subprocess.Popen[bytes]:
    """Returns when it has what it wants and has written it down. `wants`: {bucket: amount}; `holds`: what it
    holds of that; `used`: what it has used and not told."""
    command = [sys.executable, "-m", "tests.control.keeping.worker_process"]
    command += [str(socket), str(journals), owner, str(epoch), json.dumps([terms, said])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


class _Holder:
    """Asks once."""

    def __init__(self, wants: Mapping[str, int], terms: Terms) -> None:
        self._first = Exchange("", 0, 0, terms=dict.fromkeys(wants, terms), wants=[Want(1, "app", wants, {})])
        self.granted = asyncio.Event()

    def on_connected(self) -> None: ...
    def on_lost(self, dropped: Sequence[int]) -> None: ...
    def on_recall(self, seq: int, buckets: Sequence[str]) -> None: ...
    def on_wet(self, buckets: Sequence[str]) -> None: ...
    def on_store(self, is_up: bool, why: str) -> None: ...

    def on_reply(self, reply: Reply) -> None:
        assert reply.granted == [1]
        self.granted.set()

    def ask(self, link: KeeperLink) -> None:
        link.send(self._first)


async def _hold(socket: str, journals: str, owner: str, epoch: int, told: str) -> None:
    terms, said = json.loads(told)
    journal = Journal(Path(journals), owner, epoch)
    holder = _Holder(said["wants"], Terms(*terms))
    link = KeeperLink(socket, owner, epoch, str(journal.path), holder)
    await link.start()
    holder.ask(link)
    await holder.granted.wait()
    accounts = {bucket: journal.account(bucket) for bucket in said["wants"]}
    journal.hold([(accounts[bucket], amount) for bucket, amount in said.get("holds", {}).items()])
    for bucket, amount in said.get("used", {}).items():
        journal.values[accounts[bucket]] = amount
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_hold(*sys.argv[1:4], int(sys.argv[4]), sys.argv[5]))
