"""What operators write, and keys that callers send: refused in our words or understood."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gateway.errors import GatewayError
from gateway.http.head import Head
from gateway.line.admission import admit
from gateway.line.outbound import request_head
from gateway.money import NANO_PER_USD, line_nanousd, usd
from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import from_document, load_text, secret_reader
from gateway.policy.merge import Policy
from gateway.policy.problem import PolicyError
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Dollars, Duration, Expiry, ModelName, Name, Sha256, Share
from gateway.pricing.catalogue import Catalogue, pico_per_token
from tests.running import KEY, SECRET, policy_for

_ENVIRON = {"UPSTREAM_KEY": SECRET, "A": "sk-a", "TWO_LINES": "sk-a\r\nX-Evil: 1"}
_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
_RICH = """\
version: 1
providers:
  openai: {api_key: {env: A}}
  az: {dialect: azure, resource: my-resource, api_key: {env: A}, api_version: "2024-10-21"}
  local:
    base_url: "http://[::1]:8000/v1"
    headers: {x-team: "a b"}
    api_keys: [{env: A}, {env: UPSTREAM_KEY}]
    idle: 5s
models:
  fast:
    strategy: weighted
    targets:
      - {provider: openai, model: gpt-4o-mini, weight: 3}
      - {provider: local, model: "org/model:latest", match: {team: search, stream: true}}
    fallback_on: [connect, timeout, rate_limited, server_error, context_window]
    timeouts: {connect: 5s, first_token: 20s, stall: 500ms, total: 10m}
    retries: {attempts: 2, budget: 20%}
    health: {failures: 5, eject: 30s}
routes:
  - {name: night, match: {key: app, metadata: {tier: [1, b]}}, use: fast}
teams:
  search: {models: [fast, "f*"]}
keys:
  app:
    team: search
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    expires: 2027-01-01
prices:
  local/*: {input: 0.15, cached_input: "${P:-0.075}", output: 6e-1}
"""
_EXAMPLES = [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))]


def compiled(policy: Policy, catalogue: Catalogue) -> Compiled:
    return compile_policy(
        policy,
        secret_of=secret_reader(_ENVIRON),
        row_of=lambda _: 0,
        catalogue=catalogue,
        at=_AT,
        simulated_url="http://127.0.0.1:1/v1",
    )


class PolicyFile:
    """`load_text`, `compile_policy`: `PolicyError`, or tables that workers can use; written down and read
    again it is the same policy, and no value gets a line into a request."""

    name = "policy"
    corpus = (policy_for("http://127.0.0.1:1/v1").encode(), _RICH.encode(), b"\n".join(_EXAMPLES), *_EXAMPLES)
    tokens = (
        *(
            b": ",
            b"\n",
            b"\n  ",
            b"- ",
            b"{",
            b"}",
            b"[",
            b"]",
            b"'",
            b'"',
            b"&a ",
            b"*a",
            b"!!int ",
            b"<<: ",
            b"#",
        ),
        *(
            b"${",
            b"${A}",
            b"${TWO_LINES}",
            b"${X:-",
            b"$$",
            b"\t",
            b"\x00",
            b"\xef\xbb\xbf",
            b"\xff",
            b"---\n",
            b"...",
        ),
        *(
            b"null",
            b"true",
            b"~",
            b"1e99",
            b"-1",
            b".inf",
            b"0x10",
            b"1_000",
            b"{env: TWO_LINES}",
            b"{file: /}",
        ),
        *(
            b'"\\r\\nx: 1"',
            b'"\\0"',
            b"http://",
            b"https://user:pw@h/",
            b"proxy: ",
            b"auth: ",
            b"headers: ",
            b"*",
            b"?",
        ),
        *("\u2028".encode(), "ü".encode(), b"[" * 40, b"2027-13-01", b"24h", b"1e3s", b"120%"),
    )

    def __init__(self) -> None:
        self._catalogue = Catalogue()

    def check(self, data: bytes, draw: random.Random) -> None:
        try:
            first = compiled(load_text(data, _ENVIRON), self._catalogue)
        except PolicyError as error:
            assert error.problems
            for problem in error.problems:
                assert problem.message and problem.as_json()["line"] >= 0
                assert SECRET not in str(problem) and "X-Evil" not in str(problem)
            return
        again = compiled(from_document(first.document, _ENVIRON), self._catalogue)
        assert again.tables == first.tables
        snapshot = Snapshot.from_tables(first.tables)
        for model in snapshot.models.values():
            for target in model.targets:
                for key in (None, *target.provider.keys):
                    _is_one_head(request_head(target, key, target.provider.speaks, "chat"))

    def close(self) -> None: ...


def _is_one_head(head: bytes) -> None:
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"POST ") and lines[0].endswith(b" HTTP/1.1") and lines[0].count(b" ") == 2
    assert lines[-1] == b"content-length: "
    for line in lines:
        assert not {0x0A, 0x0D, 0x00} & set(line)
    names = [line.partition(b":")[0] for line in lines[1:]]
    assert len(set(names)) == len(names) and not {b"transfer-encoding", b"connection"} & set(names)


class Values:
    """Durations, shares, names and money: a value in its range, or a refusal."""

    name = "values"
    corpus = (
        *(
            b"500ms",
            b"5s",
            b"10m",
            b"1.5h",
            b"20%",
            b"0.2",
            b"100 %",
            b"0.15",
            b"1000000",
            b"fast",
            b"org/m:x",
        ),
        *(b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", b"2027-01-31T12:00:00+01:00"),
    )
    tokens = (
        *(
            b"ms",
            b"s",
            b"m",
            b"h",
            b"d",
            b"%",
            b".",
            b"-",
            b"e",
            b"nan",
            b"inf",
            b"Infinity",
            b" ",
            b"\n",
            b"\x00",
            b"_",
        ),
        *("٣".encode(), "²".encode(), b"9" * 400, b"0" * 400, b"1e-7", b"+", b"sNaN", b"0x", b"Z", b"T"),
    )

    def __init__(self) -> None:
        self._of = {
            "duration": TypeAdapter(Duration),
            "share": TypeAdapter(Share),
            "dollars": TypeAdapter(Dollars),
            "expiry": TypeAdapter(Expiry),
            "name": TypeAdapter(Name),
            "model": TypeAdapter(ModelName),
            "sha256": TypeAdapter(Sha256),
        }

    def check(self, data: bytes, draw: random.Random) -> None:
        text = data.decode("utf-8", "surrogateescape")
        found: dict[str, object] = {}
        for name, adapter in self._of.items():
            try:
                found[name] = adapter.validate_python(text)
            except ValidationError as error:
                assert error.errors()
        match found:
            case {"duration": float(seconds)}:
                assert 0.001 <= seconds <= 86400
        match found:
            case {"share": float(share)}:
                assert 0 <= share <= 1
        match found:
            case {"dollars": Decimal() as dollars}:
                pico = pico_per_token(dollars)
                assert pico - 1 < dollars * 1_000_000 <= pico or pico == dollars == 0
                tokens = draw.randrange(10**8)
                nano = line_nanousd(tokens, pico)
                assert 0 <= nano * 1000 - tokens * pico < 1000
                assert Decimal(usd(nano).decode()) * NANO_PER_USD == nano
        match found:
            case {"expiry": datetime() as moment}:
                assert moment.tzinfo is not None and moment.timestamp() is not None
        for plain in ("name", "model", "sha256"):
            assert str(found.get(plain, "a")).isascii() and str(found.get(plain, "a")).isprintable()

    def close(self) -> None: ...


class Admission:
    """`admit`: whoever is let in has sent the key, and for a path that there is."""

    name = "admission"
    corpus = (
        b"POST\n/v1/chat/completions\nauthorization\nBearer " + KEY.encode(),
        b"POST\n/openai/deployments/gpt-4o-mini/chat/completions?api-version=1\napi-key\n" + KEY.encode(),
        b"POST\n/v1/embeddings\nx-api-key\n" + KEY.encode(),
        b"GET\n/v1/models/gpt%2F4\nauthorization\nbearer   " + KEY.encode() + b" ",
    )
    tokens = (
        *(
            b"\n",
            b"Basic ",
            b"Bearer",
            b" ",
            b"\t",
            b"%",
            b"%2e%2e",
            b"%ff",
            b"%00",
            b"//",
            b"/../",
            b"?",
            b"#",
            b";",
        ),
        *(
            b"/v1/",
            b"/openai/",
            b"deployments/",
            b"models/",
            b"HEAD",
            b"OPTIONS",
            KEY.encode(),
            KEY.upper().encode(),
        ),
        *(b"content-encoding", b"gzip", b"identity", b"x-headgate-tags", b",", b"\xff"),
    )

    def __init__(self) -> None:
        text = policy_for("http://127.0.0.1:1/v1")
        self._snapshot = Snapshot.from_tables(compiled(load_text(text, _ENVIRON), Catalogue()).tables)

    def check(self, data: bytes, draw: random.Random) -> None:
        method, target, *rest = [*data.split(b"\n"), b"", b""]
        head = Head()
        head.method, head.target = method, target
        head.known = dict(zip(rest[::2], rest[1::2], strict=False))
        try:
            admission = admit(head, self._snapshot)
        except GatewayError as error:
            assert error.kind.status in (401, 404, 405, 415)
            return
        sent = [value.split(b" ", 1)[-1].strip() for value in head.known.values()]
        assert KEY.encode() in sent or KEY.encode() in head.known.values()
        assert self._snapshot.keys[hashlib.sha256(KEY.encode()).digest()] is admission.key
        assert admission.endpoint.model is None or admission.endpoint.model.encode()
        assert admit(head, self._snapshot) is admission

    def close(self) -> None: ...


TARGETS = (PolicyFile, Values, Admission)
