"""The official client on what is passed through: each call as its documentation shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from gateway.simulator.server import Simulator
from tests.line.conftest import StartRelay
from tests.line.passing import OTHER_KEY, open_policy
from tests.running import KEY


@pytest.fixture
async def clients(start: StartRelay, simulator: Simulator) -> AsyncIterator[tuple[AsyncOpenAI, AsyncOpenAI]]:
    """Two teams of one gateway."""
    relay = await start(open_policy(simulator.url))
    mine, theirs = (AsyncOpenAI(base_url=relay.url, api_key=key, max_retries=0) for key in (KEY, OTHER_KEY))
    yield mine, theirs
    await mine.close()
    await theirs.close()


Clients = tuple[AsyncOpenAI, AsyncOpenAI]


async def test_images(clients: Clients) -> None:
    client, _ = clients
    made = await client.images.generate(model="gpt-image-1", prompt="a river")
    assert made.data is not None
    assert made.data[0].b64_json
    edited = await client.images.edit(model="gpt-image-1", image=("i.png", b"\x89PNG"), prompt="a bridge")
    assert edited.usage is not None
    assert edited.usage.output_tokens == 272


async def test_speech_whole_and_streamed(clients: Clients) -> None:
    client, _ = clients
    whole = await client.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    assert len(whole.content) == 8 * 64 * 256
    async with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello"
    ) as answer:
        assert sum([len(piece) async for piece in answer.iter_bytes()]) == 8 * 64 * 256


async def test_transcription(clients: Clients) -> None:
    client, _ = clients
    heard = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF" * 50_000))
    assert heard.text == "Simulated."


async def test_moderation(clients: Clients) -> None:
    client, _ = clients
    assert (await client.moderations.create(input="x")).results[0].flagged is False


async def test_files_and_batches_of_two_teams(clients: Clients) -> None:
    mine, theirs = clients
    file = await mine.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")
    await theirs.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")
    batch = await mine.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert {row.id async for row in await mine.files.list()} == {file.id, batch.output_file_id}
    assert [row.id async for row in await mine.batches.list(limit=1)] == [batch.id]
    assert [row.filename async for row in await theirs.files.list()] == ["b.jsonl"]
    assert (await mine.files.content(file.id)).content == b"{}\n"
    with pytest.raises(openai.NotFoundError):
        await theirs.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        await theirs.batches.cancel(batch.id)
    assert (await mine.batches.cancel(batch.id)).status == "cancelled"
    assert (await mine.files.delete(file.id)).deleted


async def test_fine_tuning_jobs(clients: Clients) -> None:
    mine, theirs = clients
    file = await mine.files.create(file=("a.jsonl", b"{}\n"), purpose="fine-tune")
    job = await mine.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id)
    assert (await mine.fine_tuning.jobs.retrieve(job.id)).training_file == file.id
    with pytest.raises(openai.NotFoundError):
        await theirs.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id)


async def test_responses_plain_streamed_and_continued(clients: Clients) -> None:
    mine, theirs = clients
    first = await mine.responses.create(model="gpt-4o", input="Hello")
    assert first.output_text
    stream = await mine.responses.create(
        model="gpt-4o", input="And?", previous_response_id=first.id, stream=True
    )
    kinds = [event.type async for event in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert "response.output_text.delta" in kinds
    with pytest.raises(openai.NotFoundError):
        await theirs.responses.retrieve(first.id)
    with pytest.raises(openai.PermissionDeniedError):
        await mine.responses.create(model="o9", input="x")
