"""`headgate explain`: what would happen to a call, and why."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.asking import Admin, AdminOption, CannotAsk, telling
from gateway.cli.explaining import text_of
from gateway.cli.folder import DEFAULT_POLICIES, PoliciesOption, snapshot
from gateway.clock import now_ms
from gateway.errors import GatewayError
from gateway.line.endpoints import Endpoint, endpoint_of
from gateway.policy.explain import Known
from gateway.policy.explain import explain as explained
from gateway.policy.explained import as_json as told_of
from gateway.policy.merge import validated
from gateway.policy.problem import PolicyError
from gateway.policy.question import BadQuestion, asked, down_of, levels_of, question_of
from gateway.policy.question_spec import StateSpec
from gateway.wire.dialect import ANTHROPIC, RESPONSES

_DIALECTS = {ANTHROPIC: "anthropic", RESPONSES: "responses"}


def explain(
    request: Annotated[
        str,
        typer.Argument(
            metavar="[REQUEST]",
            help="A file with the body of a call or with a line of the request log, as JSON; - for stdin; or "
            "the URL of a call, as for curl.",
        ),
    ] = "",
    key: Annotated[str, typer.Option("--key", "-k", metavar="NAME", help="Who calls: a key's name.")] = "",
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="The model it names.")] = "",
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="LINE", help="As for curl: Authorization, x-api-key, x-headgate-tags."
        ),
    ] = None,
    data: Annotated[str, typer.Option("--data", "-d", metavar="JSON", help="As for curl: the body.")] = "",
    stream: Annotated[bool, typer.Option("--stream", help="A streamed call.")] = False,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag of it.")] = None,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="The user it names.")] = "",
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="KIND", help="chat, completions or embeddings.")
    ] = "",
    input_tokens: Annotated[
        int, typer.Option("--input-tokens", metavar="N", min=0, help="How long its input is.")
    ] = 0,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=0, help="The cap of its output.")
    ] = 0,
    down: Annotated[
        list[str] | None, typer.Option("--down", metavar="T", help="Suppose that this target is ejected.")
    ] = None,
    used: Annotated[
        list[str] | None,
        typer.Option(
            "--used",
            metavar="NAME=X",
            help="Suppose so much of it is used: day=80%, day=12.5.",
        ),
    ] = None,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="Suppose it is then.")] = "",
    policies: PoliciesOption = DEFAULT_POLICIES,
    no_secrets: Annotated[
        bool,
        typer.Option("--no-secrets", help="As if all secrets were there, also of optional providers."),
    ] = False,
    admin: AdminOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what would happen to a call, and why: who may call, which routes match, which targets are asked in
    which order, what limits and budgets have left, what it would cost at most and is likely to.

    From the policy files alone everything is up and nothing is used, unless --down and --used say otherwise.
    With --admin, from a running gateway: its policy, its targets and its counters. Nothing is sent to a
    provider, nothing is counted.

    \b
    headgate explain --key demo --model fast --stream
    headgate explain body.json --key demo --used demo-day=95%
    headgate explain http://127.0.0.1:8080/v1/chat/completions -H 'x-api-key: hg-…' -d '{"model": …}'
    tail -1 calls.jsonl | headgate explain - --admin http://127.0.0.1:9464

    Exit codes: 0 if the call would be sent; 1 if it would be refused; 2 if it cannot be told.
    """
    with telling():
        document = _read(request)
        log = document if "request_id" in document and "outcome" in document else None
        asking = _of_log(document) if log is not None else _of_body(document)
        if request.startswith(("http://", "https://", "/")) and not document:
            asking = _of_path(request)
        if data:
            asking["body"] = _object(data, "--data")
        asking |= _of_headers(header or ())
        said = {
            "model": model,
            "stream": stream,
            "tags": tag or [],
            "user": user,
            "endpoint": endpoint,
            "input_tokens": input_tokens,
            "max_tokens": max_tokens,
        }
        asking |= {name: value for name, value in said.items() if value}
        if key:
            asking = {name: value for name, value in asking.items() if name not in ("sha256", "team")}
            asking["key"] = key
        supposed = {"down": down or None, "used": _pairs(used or ()), "at": at or None}
        state = {name: value for name, value in supposed.items() if value}
        if admin:
            if state:
                raise CannotAsk("--down, --used and --at are for policy files; a gateway knows.")
            told = dict(Admin(admin).post("/admin/explain", asking))
        else:
            told = _from_files(policies, asking, state, looks=not no_secrets)
    if log is not None:
        told["logged"] = {name: log.get(name) for name in ("target", "status", "outcome", "error_type")}
    print(json.dumps(told, indent=2, ensure_ascii=False) if as_json else text_of(told))
    raise typer.Exit(0 if told["outcome"] == "sent" else 1)


def _from_files(
    folder: Path, asking: Mapping[str, Any], state: Mapping[str, Any], *, looks: bool
) -> dict[str, Any]:
    try:
        question, moment = asked(asking), validated(StateSpec, dict(state), None, (), {})
        found = snapshot(folder, at=moment.at or datetime.now(UTC), looks=looks)
        known = Known(levels_of(moment, found, now_ms()), down_of(moment, found))
        return told_of(explained(found, question_of(question, found), known))
    except PolicyError as error:
        raise CannotAsk(
            "; ".join(_in_flags(problem.path, problem.message) for problem in error.problems)
        ) from None
    except BadQuestion as wrong:
        raise CannotAsk(f"{wrong}.") from None
    except GatewayError as error:
        raise CannotAsk(f"The gateway would answer {error.kind.status}: {error.message}") from None


def _in_flags(path: str, message: str) -> str:
    if not path:
        return f"A question {message}: see --key, --model, -H and -d."
    return f"{path} {message}."


def _read(request: str) -> dict[str, Any]:
    """The JSON object in a file or on stdin; {} if the request is none of these."""
    if not request or request.startswith(("http://", "https://", "/v1", "/openai")):
        return {}
    try:
        text = sys.stdin.read() if request == "-" else Path(request).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CannotAsk(f"{request} cannot be read: {reason}.") from None
    lines = text.strip().splitlines()
    # Of a log, which has an object in each line, the last.
    many = len(lines) > 1 and lines[-1].startswith("{") and lines[-1].endswith("}") and lines[0].endswith("}")
    return _object(lines[-1] if many else text, request)


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CannotAsk(f"{where} holds no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise CannotAsk(f"{where} must hold a JSON object.")
    return found


def _of_body(document: dict[str, Any]) -> dict[str, Any]:
    return {"body": document} if document else {}


def _of_log(line: Mapping[str, Any]) -> dict[str, Any]:
    """What a line of the request log tells of its call. Tags, metadata and user are not in it."""
    if line.get("key") is None:
        raise CannotAsk("This line of the log is of a request without a valid key: no policy saw it.")
    found = {"key": line["key"], "model": line.get("asked") or line.get("model")}
    found |= {"stream": bool(line.get("stream")), "endpoint": line.get("endpoint") or "chat"}
    if line.get("input_tokens"):
        found["input_tokens"] = line["input_tokens"]
    return found


def _of_path(url: str) -> dict[str, Any]:
    path = "/" + url.partition("://")[2].partition("/")[2] if "://" in url else url
    try:
        found: Endpoint = endpoint_of(b"POST", path.encode())
    except GatewayError as error:
        raise CannotAsk(f"{path}: {error.message}") from None
    if found.kind not in ("chat", "completions", "embeddings"):
        raise CannotAsk(f"{path} has no model of the policy's; chat, completions and embeddings have.")
    named = {} if found.model is None else {"model": found.model}
    return {"endpoint": found.kind, "dialect": _DIALECTS.get(found.dialect, "openai"), **named}


def _of_headers(lines: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon:
            raise CannotAsk(f"-H takes a header like 'Authorization: Bearer …', not {line!r}.")
        token = value.partition(" ")[2].strip() if name == "authorization" else value
        if name in ("authorization", "x-api-key", "api-key"):
            found["sha256"] = hashlib.sha256(token.encode()).hexdigest()
        elif name == "x-headgate-tags":
            found["tags"] = [tag.strip() for tag in value.split(",")]
    return found


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, amount = text.partition("=")
        if not equals:
            raise CannotAsk(f"--used takes NAME=SHARE or NAME=AMOUNT, like day=80%, not {text!r}.")
        found[name.strip()] = amount.strip()
    return found
