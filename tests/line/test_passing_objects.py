"""Stored objects are their team's alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.simulator.server import Simulator
from tests.line.passing import (
    FORM,
    JSONL,
    OTHER_KEY,
    ask,
    batched,
    form,
    uploaded,
)
from tests.relaying import Relay


async def test_stored_objects_are_their_teams_alone(opened: Relay, simulator: Simulator) -> None:
    batch = await batched(opened)
    file = batch["input_file_id"]
    asked = len(simulator.requests)
    for method, path, body in [
        ("GET", f"/files/{file}", None),
        ("DELETE", f"/files/{file}", None),
        ("GET", f"/files/{file}/content", None),
        ("GET", f"/batches/{batch['id']}", None),
        ("POST", f"/batches/{batch['id']}/cancel", None),
        ("POST", "/batches", {"input_file_id": file, "endpoint": "/v1/embeddings"}),
        ("POST", "/fine_tuning/jobs", {"model": "gpt-4o-mini", "training_file": file}),
        ("POST", "/responses", {"model": "gpt-4o", "input": [{"content": [{"file_id": file}]}]}),
        ("GET", f"/batches?after={batch['id']}", None),
    ]:
        answer = await ask(opened, method, path, body, key=OTHER_KEY)
        assert (answer.status, answer.error["code"]) == (404, "not_found"), path
    assert len(simulator.requests) == asked
    assert (await ask(opened, "GET", f"/files/{file}")).json["id"] == file
    assert (await ask(opened, "GET", f"/files/{file}/content")).body == JSONL
    # A batch's result is its team's too.
    assert (await ask(opened, "GET", f"/files/{batch['output_file_id']}/content")).body == b"{}"
    assert (await ask(opened, "GET", f"/files/{batch['output_file_id']}", key=OTHER_KEY)).status == 404
    assert (await ask(opened, "DELETE", f"/files/{file}")).json["deleted"] is True


async def test_file_in_a_chat_must_be_the_teams(opened: Relay, simulator: Simulator) -> None:
    file = await uploaded(opened)
    part = {"type": "file", "file": {"file_id": file}}
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": [part]}]}
    refused = await opened.post(chat, key=OTHER_KEY)
    assert (refused.status, refused.error["code"]) == (404, "not_found")
    assert [request.path for request in simulator.requests] == ["/v1/files"]
    assert (await opened.post(chat)).status == 200


async def test_lists_show_what_is_the_teams(opened: Relay) -> None:
    mine, theirs = await uploaded(opened), await uploaded(opened, OTHER_KEY)
    page = (await ask(opened, "GET", "/files")).json
    assert [row["id"] for row in page["data"]] == [mine]
    assert (page["first_id"], page["last_id"]) == (mine, mine)
    page = (await ask(opened, "GET", "/files", key=OTHER_KEY)).json
    assert [row["id"] for row in page["data"]] == [theirs]


async def test_list_reads_on_until_something_is_the_teams(opened: Relay, simulator: Simulator) -> None:
    mine = await uploaded(opened)
    for _ in range(5):
        await uploaded(opened, OTHER_KEY)
    page = (await ask(opened, "GET", "/files?limit=2&purpose=batch")).json
    assert [row["id"] for row in page["data"]] == [mine]
    assert page["has_more"] is False
    assert [request.path.partition("after=")[0] for request in simulator.requests][-2:] == [
        "/v1/files?limit=2&purpose=batch&"
    ] * 2


async def test_stored_response_is_its_teams_plain_and_streamed(opened: Relay) -> None:
    for stream in (False, True):
        asked = {"model": "gpt-4o", "input": "Hello", "stream": stream}
        answer = await ask(opened, "POST", "/responses", asked)
        assert answer.status == 200
        if stream:
            first = json.loads(answer.body.partition(b"data: ")[2].partition(b"\n")[0])
            id_ = first["response"]["id"]
            assert answer.body.count(b"response.completed") == 2
        else:
            id_ = answer.json["id"]
        assert (await ask(opened, "GET", f"/responses/{id_}")).status == 200
        assert (await ask(opened, "GET", f"/responses/{id_}", key=OTHER_KEY)).status == 404
        followed = {"model": "gpt-4o", "input": "And?", "previous_response_id": id_}
        assert (await ask(opened, "POST", "/responses", followed)).status == 200
        assert (await ask(opened, "POST", "/responses", followed, key=OTHER_KEY)).status == 404


async def test_text_that_looks_like_an_id_makes_nobody_its_owner(opened: Relay) -> None:
    theirs = await uploaded(opened, OTHER_KEY)
    content = json.dumps({"id": "file-neverseen1", "output_file_id": "file-neverseen2"}).encode()
    file = await ask(opened, "POST", "/files", form(("file", '; filename="x.json"', content)), headers=FORM)
    assert (await ask(opened, "GET", f"/files/{file.json['id']}/content")).body == content
    for id_ in (theirs, "file-neverseen1", "file-neverseen2"):
        assert (await ask(opened, "GET", f"/files/{id_}")).status == 404


async def test_without_the_record_stored_objects_are_refused_with_503(opened: Relay) -> None:
    file = await uploaded(opened)

    def no_answer(question: object, told: Any) -> Any:
        asyncio.get_running_loop().call_soon(told, {})
        return lambda: None

    opened.line.ask = no_answer
    answer = await ask(opened, "GET", f"/files/{file}")
    assert (answer.status, answer.error["code"]) == (503, "records_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert (await ask(opened, "POST", "/moderations", {"input": "x"})).status == 200
