"""`headgate simulate` as a process: its first lines work as pasted, and it ends cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

_PROGRAM = "from gateway.cli.simulate import app; app()"
_ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _PROGRAM, *arguments]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str], Path]]:
    """The process, the two lines it printed, and its bill."""
    bill = tmp_path / "bill.jsonl"
    arguments = ("--port", "0", "--first-token-ms", "0", "--tokens-per-s", "0", "--bill", str(bill))
    with subprocess.Popen(
        command(*arguments, "--api-key", "sk-a", "--api-key", "sk-b"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        assert process.stdout
        yield process, [process.stdout.readline(), process.stdout.readline()], bill
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pasted_line_is_answered_and_billed_and_a_signal_ends_it(
    simulator: tuple[subprocess.Popen[str], list[str], Path], number: signal.Signals
) -> None:
    process, (first, pasted), bill = simulator
    assert "http://127.0.0.1:" in first
    run = subprocess.run(["sh", "-c", pasted], capture_output=True, check=True, timeout=10)
    assert orjson.loads(run.stdout)["usage"]["completion_tokens"] == 64
    process.send_signal(number)
    assert process.wait(5) == 0
    assert orjson.loads(bill.read_bytes())["output_tokens"] == 64


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--style", "rude"), "There is no style of that name"),
        (("--bill", "/nonexistent/bill"), "The bill /nonexistent/bill cannot be written"),
        (("--host", "192.0.2.1", "--port", "0"), "Cannot listen on 192.0.2.1:0"),
        (("--host", "not a host", "--port", "0"), "no address of this machine"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_status_2(arguments: tuple[str, ...], sentence: str) -> None:
    run = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=10, cwd=_ROOT, check=False
    )
    assert run.returncode == 2
    assert sentence in run.stderr
    assert run.stderr.count("\n") == 1


def test_port_that_is_taken_is_one_sentence(simulator: tuple[subprocess.Popen[str], list[str], Path]) -> None:
    port = simulator[1][0].split(":")[2].split("/")[0]
    run = subprocess.run(
        command("--port", port), capture_output=True, text=True, timeout=10, cwd=_ROOT, check=False
    )
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "Choose another --port" in run.stderr
