"""Starting: what cannot work is one sentence and exit code 2; what can is said in the state folder."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway
from tests.running import MODELS, ROOT, Gateway, policy_for


def serve_and_end(folder: Path, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`headgate serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "gateway.cli.main", "serve", *flags]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    return subprocess.run(
        command,
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), "UPSTREAM_KEY": "k", "NO_COLOR": "1", **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "policy.yaml").write_text(policy_for("http://127.0.0.1:1/v1"))
    return folder


def assert_refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 2, ended.stderr
    said = " ".join(ended.stderr.replace("│", " ").split())
    for word in words:
        assert word in said
    assert "Traceback" not in ended.stderr + ended.stdout
    assert len(ended.stderr) < 1000


ANY = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


def test_missing_policy_folder(tmp_path: Path) -> None:
    assert_refused(serve_and_end(tmp_path, "--policies", "nowhere"), "no policy folder nowhere")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: {a: [}", ("policy.yaml:1:",)),
        ("modles: {}", ("policy.yaml:1:1", "modles")),
        (
            "providers: {p: {base_url: 'http://x/v1', api_key: {env: NOT_SET_ANYWHERE}}}",
            ("NOT_SET_ANYWHERE",),
        ),
        ("models: {m: {targets: [nobody/x]}}", ("nobody",)),
    ],
)
def test_bad_policy_is_shown_with_its_place(policies: Path, text: str, words: tuple[str, ...]) -> None:
    (policies / "policy.yaml").write_text(text)
    assert_refused(serve_and_end(policies.parent, *ANY), "is rejected", *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--listen", "not a host"), ("--listen", "HOST:PORT")),
        (("--listen", "127.0.0.1"), ("--listen", "HOST:PORT")),
        (("--listen", "127.0.0.1:99999"), ("--listen", "HOST:PORT")),
        (("--admin", ":::"), ("--admin", "HOST:PORT")),
        (("--listen", "203.0.113.1:0"), ("--listen 203.0.113.1:0 cannot be used",)),
        (("--workers", "0"), ("--workers",)),
        (("--drain-delay", "soon"), ("--drain-delay", "a duration", "10s")),
        (("--drain-delay", "-1s"), ("--drain-delay", "a duration")),
        (("--max-stream", "25h"), ("--max-stream", "at most 24h")),
        (("--workers", "many"), ("--workers",)),
        (("--no-such-flag",), ("--no-such-flag",)),
    ],
)
def test_flag_that_cannot_be_followed(policies: Path, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(serve_and_end(policies.parent, *ANY, *flags), *words)


def test_variable_that_cannot_be_followed(policies: Path) -> None:
    ended = serve_and_end(policies.parent, *ANY, HEADGATE_MAX_STREAM="for ever")
    assert_refused(ended, "HEADGATE_MAX_STREAM", "a duration")


def test_state_folder_that_cannot_be_used(policies: Path) -> None:
    (policies.parent / "file").write_text("")
    assert_refused(serve_and_end(policies.parent, *ANY, "--state", "file"), "The state folder", "file")


async def test_second_gateway_on_the_same_state_or_ports_is_refused(gateway: Gateway) -> None:
    folder = gateway.policy_file.parent.parent
    secret = {"UPSTREAM_KEY": "k"}
    running = gateway.running()
    assert_refused(
        serve_and_end(folder, *ANY, "--state", str(gateway.state), **secret),
        "Another gateway uses the state folder",
    )
    for flag in ("listen", "admin"):
        ended = serve_and_end(folder, *ANY, "--state", "other", f"--{flag}", running[flag], **secret)
        assert_refused(ended, f"--{flag} {running[flag]} cannot be used: Address already in use")
    assert (await gateway.admin_json("/readyz")) == {"status": "ready"}


async def test_environment_sets_every_flag_and_flags_win(
    tmp_path: Path, policies: Path, simulator: Simulator
) -> None:
    (policies / "policy.yaml").write_text(policy_for(simulator.url))
    environ = {
        "HEADGATE_WORKERS": "2",
        "HEADGATE_STATE": str(tmp_path / "elsewhere"),
        "HEADGATE_LISTEN": "not a host",
        "HEADGATE_LOG": str(tmp_path / "log.jsonl"),
    }
    gateway = Gateway(tmp_path, policy_for(simulator.url), workers=1, environ=environ)
    gateway.start()
    try:
        await gateway.ready()
        # --state, --listen, --log and --workers were given as flags, too: those count.
        assert len(gateway.running()["worker_pids"]) == 1
        assert not (tmp_path / "elsewhere").exists()
    finally:
        gateway.stop()


async def test_state_folder_is_private_and_forgets_a_run_that_ended(
    serve: StartGateway, simulator: Simulator
) -> None:
    gateway = await serve(policy_for(simulator.url))
    assert gateway.state.stat().st_mode & 0o077 == 0
    accepted = gateway.state / "accepted.json"
    assert accepted.stat().st_mode & 0o077 == 0
    assert "sk-upstream-secret" not in accepted.read_text()
    assert gateway.stop() == 0
    assert not (gateway.state / "run.json").exists()


async def test_long_state_path_is_no_obstacle(tmp_path: Path, simulator: Simulator) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    gateway = Gateway(deep, policy_for(simulator.url), environ={})
    gateway.start()
    try:
        await gateway.ready()
        assert {row["model"] for row in (await gateway.admin_json("/admin/targets"))["targets"]} == set(
            MODELS
        )
    finally:
        gateway.stop()


def test_log_that_cannot_be_written(tmp_path: Path, policies: Path) -> None:
    ended = serve_and_end(tmp_path, "--policies", str(policies), *ANY, "--log", "/nonexistent/calls.jsonl")
    assert_refused(ended, "--log /nonexistent/calls.jsonl cannot be written")


def test_ledger_that_is_none(tmp_path: Path, policies: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "ledger.db").write_bytes(b"something else, and longer than a page" * 200)
    ended = serve_and_end(tmp_path, "--policies", str(policies), *ANY, "--state", str(tmp_path / "broken"))
    assert_refused(ended, "ledger.db cannot be opened")


async def test_open_files_are_raised_to_what_is_allowed(gateway: Gateway) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for pid in gateway.running()["worker_pids"]:
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (most, most)
