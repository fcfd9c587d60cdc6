"""What is printed by mistake, in a debugger, a traceback or a log of somebody's, holds no secret."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UPSTREAM_REFUSED, GatewayError, ProviderError
from gateway.http.head import Head
from gateway.http.message import Request
from gateway.line.admission import Admission, admit
from gateway.line.attempt import AttemptFailed
from gateway.line.outbound import origin_of
from gateway.link.target_table import TargetTable
from gateway.policy.compile import compile_policy
from gateway.policy.load import load_text, secret_reader
from gateway.policy.snapshot import Snapshot
from gateway.pricing.catalogue import Catalogue
from gateway.wire.dialects.openai_chat import read_call, read_error
from tests.running import KEY, policy_for
from tests.security.planted import ANSWER, BASIC, HEADER, METADATA, PASSWORD, PROMPT, SAID, UPSTREAM

PLANTED = (UPSTREAM, HEADER, PASSWORD, BASIC, KEY, PROMPT, METADATA, ANSWER, SAID)
ENVIRON = {"UPSTREAM_KEY": UPSTREAM, "HEADER": HEADER, "PROXY": f"http://me:{PASSWORD}@127.0.0.1:9"}


def shown(tmp_path: Path, catalogue: Catalogue) -> dict[str, Any]:
    policy = load_text(
        policy_for("http://127.0.0.1:9/v1").replace(
            "api_key:", "headers: {x: {env: HEADER}}, proxy: {env: PROXY}, api_key:"
        ),
        ENVIRON,
    )
    table = TargetTable.create(tmp_path / "targets", 1)
    compiled = compile_policy(
        policy,
        secret_of=secret_reader(ENVIRON),
        row_of=table.row,
        catalogue=catalogue,
        at=datetime.now(UTC),
    )
    snapshot = Snapshot.from_tables(compiled.tables)
    (provider,) = snapshot.providers
    head = Head()
    head.method, head.target = b"POST", b"/v1/chat/completions"
    head.headers = [(b"host", b"x"), (b"authorization", b"Bearer " + KEY.encode())]
    assert head.check(1000, 1000) is None
    body = f'{{"model": "gpt-4o", "messages": ["{PROMPT}"], "metadata": {{"a": "{METADATA}"}}}}'.encode()
    call = read_call("chat", body)
    error = read_error(400, {}, f'{{"error": {{"message": "{SAID}", "inner": "{ANSWER}"}}}}'.encode(), 0.0)
    assert UPSTREAM in provider.secrets and call.metadata["a"] == METADATA and error.message == SAID
    return {
        "policy": policy,
        "compiled": compiled,
        "snapshot": snapshot,
        "provider": provider,
        "key of a provider": provider.keys[0],
        "origin": origin_of(provider),
        "model": snapshot.models["gpt-4o"],
        "head": head,
        "request": Request(head, body),
        "admission": admit(head, snapshot),
        "call": call,
        "provider error": error,
        "gateway error": GatewayError(UPSTREAM_REFUSED, SAID, param=SAID, details={"a": ANSWER}),
        "failed attempt": AttemptFailed("", UPSTREAM_REFUSED, error),
    }


@pytest.mark.parametrize("form", [repr, str, "{}".format, "%s".__mod__])
def test_no_object_shows_a_secret_or_what_was_said(tmp_path: Path, catalogue: Catalogue, form: Any) -> None:
    objects = shown(tmp_path, catalogue)
    assert {ProviderError, Admission} <= {type(value) for value in objects.values()}
    leaks = [(name, canary) for name, value in objects.items() for canary in PLANTED if canary in form(value)]
    assert leaks == []


def test_no_traceback_shows_one(tmp_path: Path, catalogue: Catalogue) -> None:
    for name, value in shown(tmp_path, catalogue).items():
        if isinstance(value, Exception):
            text = "".join(traceback.format_exception(value))
            assert not [canary for canary in PLANTED if canary in text], name
