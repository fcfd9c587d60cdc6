"""The forms of an address, each with a real server behind it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from gateway.quota.contract import MONEY, Exchange, StoreDown, Terms, Want
from gateway.stores.redis import RedisStore
from tests.stores.redis_server import RedisServer

X = "x|key=a|2026-11-25"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def works(url: str) -> bool:
    store = RedisStore(url, host_id="h1", deadline_s=5.0)
    try:
        terms = {X: Terms(MONEY, 1000)}
        wants = [Want(1, "app", {X: 10}, {})]
        assert (await store.exchange(Exchange("h1/a", 1, 1, terms, wants=wants))).granted == [1]
        assert await store.set_terms({"x": Terms(MONEY, 900, stamp=2)}) == [X]
        assert [each.free for each in await store.balances()] == [890]
        assert await store.verify() == [] and await store.unfit() == ""
        return True
    finally:
        await store.close()


@pytest.fixture
def start() -> Iterator[Callable[..., RedisServer]]:
    servers: list[RedisServer] = []

    def begin(*settings: str, **more: str) -> RedisServer:
        servers.append(RedisServer(*settings, **more).start())
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


async def test_a_port_with_a_password_and_a_database(start: Callable[..., RedisServer]) -> None:
    port = free_port()
    start("--port", str(port)).run("ACL", "SETUSER", "gate", "on", ">p@ss/word", "~*", "&*", "+@all")
    assert await works(f"redis://gate:p%40ss%2Fword@127.0.0.1:{port}/3")


async def test_the_master_that_a_sentinel_names(start: Callable[..., RedisServer], tmp_path: Path) -> None:
    master, port = free_port(), free_port()
    server = start("--port", str(master), "--bind", "127.0.0.1")
    server.run("CONFIG", "SET", "requirepass", "right")
    (tmp_path / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor gates 127.0.0.1 {master} 1\n"
        "sentinel auth-pass gates right\n"
    )
    sentinel = subprocess.Popen(
        [server.executable, str(tmp_path / "sentinel.conf"), "--sentinel"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert sentinel.stdout is not None
        while "+monitor" not in sentinel.stdout.readline():
            assert sentinel.poll() is None
        assert await works(f"redis+sentinel://:right@127.0.0.1:{port},127.0.0.1:1/gates/0")
    finally:
        sentinel.kill()
        sentinel.wait()


async def test_a_cluster_keeps_all_that_one_script_needs_on_one_node(
    start: Callable[..., RedisServer],
) -> None:
    port = free_port()
    while port > 55_535:  # Nodes talk on a port 10,000 above.
        port = free_port()
    server = start("--port", str(port), "--cluster-enabled", "yes")
    server.run("CLUSTER", "ADDSLOTS", *range(16_384))
    while "cluster_state:ok" not in str(server.run("CLUSTER", "INFO")):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert await works(f"redis+cluster://127.0.0.1:{port}")


@pytest.mark.system
async def test_tls(start: Callable[..., RedisServer], system_tool: Callable[[str], str]) -> None:
    port, authority = free_port(), trustme.CA()
    certificate = authority.issue_cert("localhost")
    folder = Path(start().folder)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    files = [("cert-file", "cert.pem"), ("key-file", "key.pem"), ("ca-cert-file", "ca.pem")]
    start(
        "--tls-port",
        str(port),
        "--tls-auth-clients",
        "no",
        *(word for name, file in files for word in (f"--tls-{name}", str(folder / file))),
        executable=system_tool("redis-server"),
    )
    assert await works(f"rediss://localhost:{port}?ssl_ca_certs={folder / 'ca.pem'}")
    stranger = RedisStore(f"rediss://localhost:{port}", host_id="h1", deadline_s=5.0)
    with pytest.raises(StoreDown, match="cannot be reached"):
        await stranger.expire()
    await stranger.close()


@pytest.mark.parametrize(
    "url",
    ["http://:hunter2@host", "hunter2", "redis://:hunter2@host:port", "redis+sentinel://:hunter2@host:26379"],
)
def test_what_is_no_address_is_refused_without_saying_it(url: str) -> None:
    with pytest.raises(ValueError, match="address of Redis") as caught:
        RedisStore(url, host_id="h1")
    assert "hunter2" not in str(caught.value) and caught.value.__cause__ is None
