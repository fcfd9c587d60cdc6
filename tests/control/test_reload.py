"""What makes control load the policy again, and what it ships then: the reloader alone, with real files."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from gateway.clock import now_s
from gateway.control.reload import Reloader
from gateway.telemetry.meters import ControlMeters
from gateway.telemetry.slots import SlotFile, read_slots
from tests.running import eventually


class Shipped:
    """A folder, its reloader, and the tables it shipped to workers."""

    def __init__(self, folder: Path) -> None:
        self.policies = folder / "policies"
        self.file = self.policies / "policy.yaml"
        self.state = folder / "state"
        self.secret = folder / "secret"
        self.tables: list[Mapping[str, Any]] = []
        self._slots = folder / "slots"
        for made in (self.policies, self.state):
            made.mkdir()
        self.secret.write_text("sk-one\n")
        self.file.write_text(self.policy())
        self._meters = ControlMeters(SlotFile.create(self._slots, slots=64))
        self._rows: dict[str, int] = {}
        self.restart()

    def restart(self) -> None:
        """A control process that begins with the same folders."""
        self.reloader = Reloader(
            self.policies,
            self.state,
            lambda name: self._rows.setdefault(name, len(self._rows)),
            self._switch,
            self._no_simulator,
            self._meters,
        )

    async def _switch(self, tables: Mapping[str, Any]) -> None:
        self.tables.append(tables)

    async def _no_simulator(self) -> str:
        raise AssertionError("no policy here has a simulated provider")

    def policy(self, rest: str = "", name: str = "m") -> str:
        provider = f'base_url: "https://h/v1", api_key: {{file: {self.secret}}}{rest}'
        return f"providers: {{p: {{{provider}}}}}\nmodels: {{{name}: {{targets: [p/x]}}}}\n"

    def counted(self, result: str) -> int:
        return next(
            values[0]
            for name, labels, values in read_slots(self._slots)
            if (name, labels) == ("headgate_policy_reloads_total", (result,))
        )

    @property
    def stamps(self) -> list[int]:
        return [tables["stamp"] for tables in self.tables]

    @property
    def secret_in_force(self) -> str:
        return str(self.tables[-1]["providers"][0]["keys"][0]["secret"])


@pytest.fixture
def shipped(tmp_path: Path) -> Shipped:
    return Shipped(tmp_path)


@pytest.fixture
async def watched(shipped: Shipped) -> AsyncIterator[Shipped]:
    """Its first policy is in force, and the folder is watched."""
    assert await shipped.reloader.first()
    watch = asyncio.create_task(shipped.reloader.watch())
    yield shipped
    watch.cancel()


async def test_secret_file_that_changes_is_read_again_though_the_hash_stays(watched: Shipped) -> None:
    hash_ = watched.tables[-1]["hash"]
    watched.secret.write_text("sk-two\n")
    await eventually(lambda: watched.secret_in_force == "sk-two")
    assert watched.tables[-1]["hash"] == hash_


async def test_secret_swapped_by_symlink_is_read_again(watched: Shipped, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("sk-two\n")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "link").replace(watched.secret)
    await eventually(lambda: watched.secret_in_force == "sk-two")


async def test_secret_that_vanishes_leaves_the_policy_in_force_and_may_come_back(watched: Shipped) -> None:
    watched.secret.unlink()
    await eventually(lambda: watched.counted("rejected") == 1)
    assert watched.secret_in_force == "sk-one"
    assert watched.reloader.last_problems[0].path == "providers.p.api_key"
    watched.secret.write_text("sk-two\n")
    await eventually(lambda: watched.secret_in_force == "sk-two")
    assert watched.reloader.last_problems == []


async def test_secret_that_changes_while_the_folder_is_bad_is_taken_up(watched: Shipped) -> None:
    watched.file.write_text("models: [\n")
    await eventually(lambda: watched.counted("rejected") == 1)
    watched.secret.write_text("sk-two\n")
    await eventually(lambda: watched.secret_in_force == "sk-two")
    assert watched.reloader.last_problems


async def test_same_content_is_not_shipped_again(watched: Shipped) -> None:
    for path in (watched.file, watched.secret):
        path.write_text(path.read_text())
        assert await watched.reloader.load()
    assert (len(watched.tables), watched.counted("accepted")) == (1, 1)


def write_identity(folder: Path) -> str:
    """A CA, a certificate of it and its key; the policy's text for them."""
    authority = trustme.CA()
    issued = authority.issue_cert("client")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    files = {"ca_file": "ca.pem", "client_cert": "cert.pem", "client_key": "key.pem"}
    return ", tls: {" + ", ".join(f"{name}: {folder / file}" for name, file in files.items()) + "}"


async def test_certificate_that_is_renewed_under_its_name_is_shipped_again(
    watched: Shipped, tmp_path: Path
) -> None:
    watched.file.write_text(watched.policy(write_identity(tmp_path)))
    await eventually(lambda: len(watched.tables) == 2)
    write_identity(tmp_path)
    await eventually(lambda: len(watched.tables) == 3)
    assert watched.tables[1] == watched.tables[2], "only the files' contents differ"


@pytest.mark.parametrize("file", ["ca.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nhalf", None])
async def test_certificate_that_cannot_be_used_changes_nothing(
    shipped: Shipped, tmp_path: Path, file: str, content: str | None
) -> None:
    shipped.file.write_text(shipped.policy(write_identity(tmp_path)))
    assert await shipped.reloader.first()
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    assert not await shipped.reloader.load()
    assert len(shipped.tables) == 1
    (problem,) = shipped.reloader.last_problems
    assert (problem.path, problem.line) == ("providers.p.tls", 1)
    assert "cannot be used" in problem.message


def truncated(shipped: Shipped) -> None:
    shipped.file.write_text("")


def half_written(shipped: Shipped) -> None:
    text = shipped.policy()
    shipped.file.write_text(text[: len(text) // 2])


def file_deleted(shipped: Shipped) -> None:
    shipped.file.unlink()


def folder_deleted(shipped: Shipped) -> None:
    shutil.rmtree(shipped.policies)


def folder_is_a_file(shipped: Shipped) -> None:
    folder_deleted(shipped)
    shipped.policies.write_text("")


def link_loop(shipped: Shipped) -> None:
    """Cannot be opened, whoever asks: permissions do not bind root."""
    shipped.file.unlink()
    shipped.file.symlink_to(shipped.file)


def dangling_link(shipped: Shipped) -> None:
    shipped.file.unlink()
    shipped.file.symlink_to("nowhere.yaml")


def no_file(shipped: Shipped) -> None:
    """A folder of that name."""
    shipped.file.unlink()
    shipped.file.mkdir()


def folder_in_itself(shipped: Shipped) -> None:
    """Two links to their own folder: 2^40 paths lead through them."""
    for name in ("a", "b"):
        (shipped.policies / name).symlink_to(".")
    shipped.file.write_text("models: [\n")


SPOILT = [
    truncated,
    half_written,
    file_deleted,
    folder_deleted,
    folder_is_a_file,
    link_loop,
    dangling_link,
    no_file,
    folder_in_itself,
]


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
async def test_spoilt_folder_changes_nothing_and_heals(
    watched: Shipped, spoil: Callable[[Shipped], None], capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(watched)
    await eventually(lambda: watched.counted("rejected") >= 1)
    assert watched.reloader.last_problems
    assert len(watched.tables) == 1
    assert capfd.readouterr().err.count("is rejected; the one before goes on") == watched.counted("rejected")
    if not watched.policies.is_dir():
        watched.policies.unlink(missing_ok=True)
        watched.policies.mkdir()
    if watched.file.is_dir():
        watched.file.rmdir()
    (watched.policies / "fresh").write_text(watched.policy(name="healed"))
    (watched.policies / "fresh").replace(watched.file)
    await eventually(lambda: watched.tables[-1]["models"][0]["name"] == "healed")
    assert watched.reloader.last_problems == []


@pytest.mark.parametrize("accepted", [b"", b'{"models": ', b"[]", b"1", b'{"modles": {}}', b"\xff"])
async def test_accepted_policy_that_is_torn_is_of_no_use(
    shipped: Shipped, accepted: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (shipped.state / "accepted.json").write_bytes(accepted)
    shipped.file.write_text("models: [\n")
    assert not await shipped.reloader.first()
    assert "cannot be used either" in capfd.readouterr().err
    shipped.file.write_text(shipped.policy())
    assert await shipped.reloader.first()
    assert (shipped.state / "accepted.json").read_bytes() != accepted


async def test_watch_goes_on_where_the_folder_is_gone_at_its_start(shipped: Shipped) -> None:
    assert await shipped.reloader.first()
    folder_deleted(shipped)
    watch = asyncio.create_task(shipped.reloader.watch())
    await asyncio.sleep(0)
    os.mkdir(shipped.policies)
    shipped.file.write_text(shipped.policy(name="again"))
    await eventually(lambda: shipped.tables[-1]["models"][0]["name"] == "again")
    watch.cancel()


async def test_changed_secret_of_the_store_counts_and_is_not_kept(
    shipped: Shipped,
) -> None:
    store = "store: {redis: {file: %s}}\nalerts: {webhook: 'https://h', secret: {file: %s}}\n"
    redis, sign = shipped.secret.with_name("redis"), shipped.secret.with_name("sign")
    redis.write_text("redis://:hunter22@h\n")
    sign.write_text("s1gn-ature\n")
    shipped.file.write_text(shipped.policy() + store % (redis, sign))
    assert await shipped.reloader.load()
    assert "rules" in shipped.tables[-1]
    assert "hunter22" in str(shipped.tables) and "s1gn-ature" in str(shipped.tables)
    kept = (shipped.state / "accepted.json").read_text()
    assert "hunter22" not in kept and "s1gn-ature" not in kept
    redis.write_text("redis://other\n")
    assert await shipped.reloader.load()
    assert len(shipped.tables) == 2
    assert shipped.reloader.compiled is not None
    assert shipped.reloader.compiled.tables["store"]["redis"] == "redis://other"


async def test_policy_keeps_the_moment_at_which_it_was_accepted_over_restarts_and_edits_are_later(
    shipped: Shipped,
) -> None:
    before_ms = int(now_s() * 1000)
    assert await shipped.reloader.first()
    shipped.restart()
    assert await shipped.reloader.first()
    first, again = shipped.stamps
    assert before_ms <= first == again <= now_s() * 1000
    for name in ("other", "m", "third"):
        shipped.file.write_text(shipped.policy(name=name))
        assert await shipped.reloader.load()
    shipped.file.write_text("models: [\n")
    shipped.restart()
    assert await shipped.reloader.first(), "the accepted policy of the state folder"
    _, _, *edits, kept = shipped.stamps
    assert sorted({first, *edits}) == [first, *edits]
    assert kept == edits[-1]


async def test_stamp_is_on_the_disk_before_workers_have_it_and_policies_serve_where_it_cannot_be(
    shipped: Shipped, capfd: pytest.CaptureFixture[str]
) -> None:
    (shipped.state / "stamp.json").mkdir()
    assert await shipped.reloader.first()
    assert "cannot be kept" in capfd.readouterr().err
    (shipped.state / "stamp.json").rmdir()
    on_disk: list[int] = []

    async def switch(tables: Mapping[str, Any]) -> None:
        shipped.tables.append(tables)
        on_disk.append(orjson.loads((shipped.state / "stamp.json").read_bytes())["stamp"])

    shipped.reloader._switch = switch
    shipped.file.write_text(shipped.policy(name="other"))
    assert await shipped.reloader.load()
    assert on_disk == shipped.stamps[1:]
    assert shipped.stamps[0] < shipped.stamps[1]
