"""What README.md tells people to do works: every block is run as it stands, against a gateway of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.clock import now_ms
from gateway.control.first_call import DEMO_KEY
from gateway.control.webhook import signature
from gateway.quota.window import window
from gateway.simulator.server import Simulator
from tests.collector import Collector, attributes
from tests.conftest import StartGateway
from tests.control.keeping.desk import USD, Spender, tables_of
from tests.control.keeping.purse import Purse
from tests.running import Gateway, eventually, policy_for

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks_of(document: str) -> list[tuple[str, str]]:
    """(language, text) of its code blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)


BLOCKS = blocks_of(README)
LIMITS = blocks_of((ROOT / "docs" / "limits.md").read_text())
TRACES_TEXT = (ROOT / "docs" / "traces.md").read_text()
TRACES = blocks_of(TRACES_TEXT)
DRIFT = blocks_of((ROOT / "docs" / "drift.md").read_text())
QUESTIONS = blocks_of((ROOT / "docs" / "policy-questions.md").read_text())
DIALECTS = blocks_of((ROOT / "docs" / "dialects.md").read_text())
NO_PROVIDERS = {"OPENAI_API_KEY": "", "MISTRAL_API_KEY": "", "GROQ_API_KEY": ""}
"""As on a machine without keys: the simulated provider answers."""


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


@pytest.fixture
async def example(serve: StartGateway) -> Gateway:
    """`make run` as in the README: the example policies, with the lines to paste."""
    return await serve("", "--policies", str(ROOT / "policies"), "--banner", environ=NO_PROVIDERS)


class Shell:
    """Runs what the README says, one shell for all, in a folder with a copy of the example policies."""

    def __init__(self, folder: Path, gateway: Gateway) -> None:
        shutil.copytree(ROOT / "policies", folder / "policies")
        self._folder = folder
        self._ports = {
            "127.0.0.1:8080": gateway.url.removeprefix("http://").removesuffix("/v1"),
            "127.0.0.1:9464": gateway.admin.removeprefix("http://"),
        }
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name, module in (("headgate", " -m gateway.cli.main"), ("python", "")):
            script = bin_folder / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
            script.chmod(0o755)
        self._environ = {
            **os.environ,
            **NO_PROVIDERS,
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HEADGATE_STATE": str(gateway.state),
        }

    async def run(self, script: str) -> str:
        """Its stdout; any failing line fails the test, an HTTP error too."""
        for written, real in self._ports.items():
            script = script.replace(written, real)
        script = script.replace("curl -s ", "curl -s --fail ")
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-euc",
            script,
            cwd=self._folder,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        assert process.returncode == 0, f"{script}\n{out.decode()}\n{errors.decode()}"
        return out.decode()


@pytest.fixture
def shell(tmp_path: Path, example: Gateway, system_tool: Callable[[str], str]) -> Shell:
    system_tool("curl")
    folder = tmp_path / "reader"
    folder.mkdir()
    return Shell(folder, example)


async def test_every_shell_block_of_the_readme_runs(shell: Shell) -> None:
    said = [await shell.run(block) for block in blocks("sh")]
    assert len(said) >= 6
    everything = "\n".join(said)
    for expected in (
        '"object":"chat.completion"',
        "sha256",
        "policy ",
        '"hash"',
        "headgate_",
        '"ready"',
        "--seed",
    ):
        assert expected in everything


async def test_python_of_the_readme_streams_an_answer(shell: Shell) -> None:
    exports = [block for block in blocks("sh") if "export OPENAI_BASE_URL" in block]
    (program,) = blocks("python")
    assert len(exports) == 1
    said = await shell.run(f"{exports[0]}\npython - <<'END'\n{program}\nEND")
    assert len(said.split()) > 10


async def test_lines_that_serve_prints_work_as_pasted(shell: Shell, example: Gateway) -> None:
    said = example.said()
    (curl,) = re.findall(r"^curl .*$", said, re.MULTILINE)
    (pair,) = re.findall(r"^OPENAI_BASE_URL=\S+ OPENAI_API_KEY=\S+$", said, re.MULTILINE)
    assert json.loads(await shell.run(curl))["object"] == "chat.completion"
    program = "import openai; print(*(model.id for model in openai.OpenAI().models.list()))"
    assert "gpt-4o-mini" in (await shell.run(f"{pair} python -c {shlex.quote(program)}")).split()


async def test_console_is_where_serve_says(example: Gateway) -> None:
    (where,) = re.findall(r"^headgate: see what happens on (http://\S+/)$", example.said(), re.MULTILINE)
    assert where == f"{example.admin}/"
    async with aiohttp.request("GET", where) as answer:
        assert answer.status == 200 and "<title>Headgate</title>" in await answer.text()


def test_pictures_of_the_readme_are_there_and_small() -> None:
    pictures = [ROOT / name for name in re.findall(r"\]\((docs/[\w-]+\.png)\)", README)]
    assert len(pictures) == 4
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert all(picture.stat().st_size < 300_000 for picture in pictures)


async def test_policy_of_the_readme_is_accepted(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "reader" / "own"
    folder.mkdir()
    policies = blocks("yaml")
    assert "".join(policies).count("…") == 1
    for number, policy in enumerate(policies):
        text = policy.replace("…", hashlib.sha256(b"a key").hexdigest())
        (folder / f"{number}.yaml").write_text(text)
    assert "2 targets" in await shell.run("OPENAI_API_KEY=sk-not-used headgate check own")


async def test_metrics_that_the_readme_names_are_there_after_a_call(shell: Shell, example: Gateway) -> None:
    named = set(re.findall(r"`(headgate_\w+)`", README))
    assert len(named) >= 4
    await shell.run(blocks("sh")[0])

    async def are_there() -> bool:
        samples = {name.removesuffix("_count") for name, _ in await example.metrics()}
        return named <= samples and any(name.startswith("gen_ai_") for name in samples)

    await eventually(are_there, says=lambda: f"wanted {named}")


async def test_commands_of_the_chapter_on_limits_run_as_written(
    serve: StartGateway, simulator: Simulator, tmp_path: Path, system_tool: Callable[[str], str]
) -> None:
    system_tool("curl")
    (budgets,) = (text for kind, text in LIMITS if kind == "yaml" and "search-month" in text)
    models = "\n".join(f"  {name}: {{targets: [upstream/{name}]}}" for name in ("small", "big"))
    hook = {"BUDGET_WEBHOOK": "http://127.0.0.1:1/hook", "BUDGET_WEBHOOK_SECRET": "s"}
    policy = policy_for(simulator.url, rest=budgets, models=models)
    gateway = await serve(policy, environ=hook)
    rules = tables_of(budgets, models=models, **hook)["rules"]
    purse = await Purse(gateway.state / "keeper.sock", "worker-9").up()
    month = next(rule for rule in rules if rule["name"] == "search-month")
    bucket = f"search-month|all|{window(month['every'], month['timezone'], now_ms()).name}"
    await Spender(purse, rules, now_ms).spend(USD, bucket)
    (tmp_path / "reader").mkdir()
    shell = Shell(tmp_path / "reader", gateway)
    said = "\n".join([await shell.run(text) for kind, text in LIMITS if kind == "sh"])
    await purse.close()
    for expected in ("search-month  usd", "The books agree.", '"spent_usd":"1.00"', "500.00+50.00", "total"):
        assert expected in said
    assert "app" in (tmp_path / "reader" / "week.csv").read_text()


async def one_answer_is_judged(shell: Shell, example: Gateway) -> None:
    await shell.run(blocks("sh")[0])

    async def is_judged() -> bool:
        return await example.metric("headgate_drift_analyzed_total") > 0

    await eventually(is_judged)


async def test_commands_of_the_chapter_on_drift_run_as_written(shell: Shell, example: Gateway) -> None:
    await one_answer_is_judged(shell, example)
    said = "\n".join([await shell.run(text) for kind, text in DRIFT if kind == "sh"])
    for expected in ("learning", "of 500 answers", "no alarm", "as before-the-launch"):
        assert expected in said


async def test_policies_of_the_chapter_on_drift_are_accepted(shell: Shell, tmp_path: Path) -> None:
    hook = "ALERT_WEBHOOK=https://hooks.example.com/x ALERT_SECRET=s"
    for number, text in enumerate(text for kind, text in DRIFT if kind == "yaml"):
        folder = tmp_path / "reader" / f"drift-{number}"
        shutil.copytree(ROOT / "policies", folder)
        (folder / "drift.yaml").write_text(text)
        await shell.run(f"{hook} headgate check {folder.name}")


async def test_commands_of_the_chapter_on_dialects_run_as_written(shell: Shell) -> None:
    scripts = [text for kind, text in DIALECTS if kind == "sh"]
    said = "\n".join([await shell.run(script) for script in scripts])
    for expected in (
        *('"type":"message"', '"input_tokens":', "x-api-key", '"auth": "Authorization: Bearer"'),
        *('"object":"response"', '"max_output_tokens":200'),
    ):
        assert expected in said
    (exports,) = (script for script in scripts if "export" in script)
    (program,) = (text for kind, text in DIALECTS if kind == "python")
    assert len((await shell.run(f"{exports}\npython - <<'END'\n{program}\nEND")).split()) > 10


async def test_policies_of_the_chapter_on_dialects_are_accepted(shell: Shell, tmp_path: Path) -> None:
    for number, text in enumerate(text for kind, text in DIALECTS if kind == "yaml"):
        folder = tmp_path / "reader" / f"dialects-{number}"
        folder.mkdir()
        known = [f"  {name}: {{api_key: {{env: KEY}}}}" for name in ("anthropic", "openai")]
        missing = [line for line in known if line.partition("{")[0] not in text]
        (folder / "a.yaml").write_text(
            "\n".join(["version: 1", "providers:", *missing, "  x: {base_url: http://h/v1}"])
        )
        (folder / "b.yaml").write_text(text)
        said = await shell.run(f"ANTHROPIC_API_KEY=k OPENAI_API_KEY=k KEY=k headgate check {folder.name}")
        assert "target" in said


async def test_commands_of_the_chapter_on_questions_run_as_written(shell: Shell) -> None:
    said = "\n".join([await shell.run(text) for kind, text in QUESTIONS if kind == "sh"])
    for expected in (
        "demo asks for fast: goes to simulator/fast",
        "demo asks for fast: goes to openai/gpt-4o-mini",
        "demo asks for gpt-4o-mini: goes to",
        '"outcome":"sent"',
        "7 as expected",
        "budgets.demo-day.usd: 20 → 10",
        "1 call of the log",
        '"ok": true',
    ):
        assert expected in said, said


async def test_expectations_of_the_chapter_on_questions_hold(shell: Shell, tmp_path: Path) -> None:
    (expectations,) = (text for kind, text in QUESTIONS if kind == "yaml")
    (tmp_path / "reader" / "mine").mkdir()
    (tmp_path / "reader" / "mine" / "a.yaml").write_text(expectations)
    assert "3 as expected" in await shell.run("headgate test policies --tests mine")


async def test_commands_of_the_runbooks_run_as_written(shell: Shell, example: Gateway) -> None:
    await one_answer_is_judged(shell, example)
    runbooks = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    scripts = {text for page in runbooks for kind, text in blocks_of(page.read_text()) if kind == "sh"}
    assert len(scripts) >= 10
    said = "\n".join([await shell.run(script) for script in sorted(scripts)])
    for expected in ('"targets"', '"hash"', "demo-day", '"ready"', '"workers"', "total"):
        assert expected in said


def test_signature_of_an_alert_is_checked_as_the_chapter_on_limits_says() -> None:
    (program,) = (text for kind, text in LIMITS if kind == "python")
    names: dict[str, Any] = {}
    exec(program, names)
    now_s = now_ms() // 1000
    body = b'{"id": "alert_1"}'
    is_genuine = names["is_genuine"]
    assert is_genuine(signature("s", now_s, body), body, "s")
    assert not is_genuine(signature("s", now_s, body), body + b" ", "s")
    assert not is_genuine(signature("s", now_s, body), body, "t")
    assert not is_genuine(signature("s", now_s - 301, body), body, "s")


def test_only_make_and_docker_are_left_to_the_reader() -> None:
    programs = {line.split()[0] for block in blocks("") for line in block.replace("\\\n", "").splitlines()}
    assert programs == {"make", "docker"}
    assert {kind for kind, _ in BLOCKS} == {"", "sh", "python", "yaml"}


def test_readme_tells_the_public_key_of_the_example_policies() -> None:
    assert set(re.findall(r"hg-[\w-]+", README)) == {DEMO_KEY}
    keys = (ROOT / "policies" / "03-teams.yaml").read_text()
    assert DEMO_KEY in keys and hashlib.sha256(DEMO_KEY.encode()).hexdigest() in keys


def image_settings() -> dict[str, str]:
    served = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    return dict(re.findall(r"(HEADGATE_\w+)=(\S+)", served))


async def test_image_serves_as_the_readme_starts_it_and_its_health_check_sees_that(
    serve: StartGateway, shell: Shell
) -> None:
    run = next(block for block in blocks("") if "docker run" in block)
    given = dict(re.findall(r"-e (HEADGATE_\w+)=(\S+)", run))
    anywhere = {name: re.sub(r":\d+$", ":0", where) for name, where in image_settings().items()}
    gateway = await serve(
        "",
        *("--policies", str(ROOT / "policies")),
        *("--listen", anywhere["HEADGATE_LISTEN"], "--admin", anywhere["HEADGATE_ADMIN"]),
        environ={**NO_PROVIDERS, **given},
    )
    check = re.search(
        r'HEALTHCHECK.* CMD \["python", "-c", "(.*?)"\]', (ROOT / "Dockerfile").read_text(), re.DOTALL
    )
    assert check is not None
    program = shlex.quote(check[1].replace("\\\n", ""))
    port = gateway.admin.rpartition(":")[2]
    await shell.run(f"HEADGATE_ADMIN=0.0.0.0:{port} python -c {program}")
    with pytest.raises(AssertionError, match="refused"):
        await shell.run(f"HEADGATE_ADMIN=0.0.0.0:1 python -c {program}")


async def test_open_admin_port_without_a_key_is_refused_at_every_start(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "", environ={**NO_PROVIDERS, "HEADGATE_ADMIN_KEY": ""})
    for _ in range(2):
        assert await exit_code(gateway, "--policies", str(ROOT / "policies"), "--admin", "0.0.0.0:0") == 2
    assert gateway.said().count("set HEADGATE_ADMIN_KEY") == 2


async def exit_code(gateway: Gateway, *flags: str) -> int:
    """Of a gateway that ends by itself."""
    gateway.start(*flags)
    process = gateway.process
    assert process is not None
    try:
        await eventually(lambda: process.poll() is not None, says=gateway.said)
    finally:
        process.kill()
    return process.wait()


async def test_commands_of_the_chapter_on_traces_run_as_written(
    serve: StartGateway, collector: Collector, tmp_path: Path, system_tool: Callable[[str], str]
) -> None:
    system_tool("curl")
    environ = {**NO_PROVIDERS, **collector.environ()}
    gateway = await serve("", "--policies", str(ROOT / "policies"), "--banner", environ=environ)
    (tmp_path / "reader").mkdir()
    shell = Shell(tmp_path / "reader", gateway)
    said = "\n".join([await shell.run(text) for kind, text in TRACES if kind == "sh"])
    assert 'headgate_traces_total{kept="sampled"} 1' in said
    await eventually(lambda: collector.spans)
    call, attempt = collector.spans
    assert call.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    found = {**attributes(call.attributes), **attributes(attempt.attributes)}
    table_of = re.findall(r"^\| (`(?:gen_ai|headgate)\.[^|]+) \|", TRACES_TEXT, re.MULTILINE)
    told = {name for row in table_of for name in re.findall(r"`([\w.]+)`", row)}
    only_of_streams_and_errors = {"gen_ai.response.time_to_first_chunk", "error.type"}
    assert len(told) >= 14 and told - only_of_streams_and_errors <= found.keys()


def test_names_in_the_chapter_on_traces_are_those_of_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "gateway" / "control").glob("*.py"))
    names = set(re.findall(r"`((?:gen_ai|headgate|http|url|error)\.[\w.]+)`", TRACES_TEXT))
    assert len(names) > 20 and [name for name in sorted(names) if name not in code] == []
    variables = set(re.findall(r"OTEL_[A-Z_]+", TRACES_TEXT))
    known = code + "OTEL_EXPORTER_OTLP_HEADERS OTEL_RESOURCE_ATTRIBUTES OTEL_SERVICE_NAME"
    for signal in ("TRACES", "METRICS", "LOGS"):
        known += f" OTEL_{signal}_EXPORTER"
    assert [name for name in sorted(variables) if name not in known] == []


async def test_policies_of_the_chapter_on_traces_are_accepted(shell: Shell, tmp_path: Path) -> None:
    texts = [text for kind, text in TRACES if kind == "yaml"]
    assert len(texts) == 2
    for number, text in enumerate(texts):
        folder = tmp_path / "reader" / f"traces-{number}"
        shutil.copytree(ROOT / "policies", folder)
        (folder / "traces.yaml").write_text(text)
        await shell.run(f"headgate check {folder.name}")
