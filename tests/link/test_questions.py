"""A worker's question gets one answer, however often control dies before it is given."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.link.control_end import WorkerLinks
from gateway.link.worker_end import ControlLink
from tests.running import eventually


class Answers:
    """Control's side: answers once `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.asked: list[dict[str, Any]] = []

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        await self.release.wait()
        return {"told": question["what"]}


def listener(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)
    bound.bind(str(path))
    bound.listen()
    return bound


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[ControlLink]:
    link = ControlLink(str(tmp_path / "s"), 0, lambda tables: None, lambda hash_: None, lambda count: None)
    yield link
    await link.close()


async def ask(link: ControlLink, what: str) -> asyncio.Future[dict[str, Any]]:
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    link.ask({"what": what}, told.set_result)
    return told


async def test_questions_are_asked_again_after_control_died(tmp_path: Path, worker: ControlLink) -> None:
    first = await ask(worker, "before")  # nobody listens yet
    await worker.start()
    async with AsyncExitStack() as stack:
        dying = Answers()
        links = WorkerLinks(lambda lines: None, dying.answer)
        await links.start(listener(tmp_path / "s"))
        second = await ask(worker, "meanwhile")
        await eventually(lambda: len(dying.asked) == 2)
        await links.close()
        assert not first.done()
        living = Answers()
        living.release.set()
        again = WorkerLinks(lambda lines: None, living.answer)
        await again.start(listener(tmp_path / "s"))
        stack.push_async_callback(again.close)
        assert (await asyncio.wait_for(first, 5))["told"] == "before"
        assert (await asyncio.wait_for(second, 5))["told"] == "meanwhile"
        assert [question["what"] for question in living.asked] == ["before", "meanwhile"]


async def test_question_that_nobody_waits_for_is_forgotten(tmp_path: Path, worker: ControlLink) -> None:
    worker.ask({"what": "left"}, lambda reply: pytest.fail("nobody waits"))()
    stays = await ask(worker, "stays")
    await worker.start()
    answers = Answers()
    answers.release.set()
    links = WorkerLinks(lambda lines: None, answers.answer)
    await links.start(listener(tmp_path / "s"))
    assert (await asyncio.wait_for(stays, 5))["told"] == "stays"
    assert [question["what"] for question in answers.asked] == ["stays"]
    await links.close()
