"""`headgate simulate`: the simulated provider as a command."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.simulator.server import Simulator, run
from gateway.simulator.settings import STYLES, Settings

_STYLES = ", ".join(STYLES)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8090,
    seed: Annotated[int, typer.Option(help="Same seed and same request: same answer.")] = 1,
    first_token_ms: Annotated[
        float, typer.Option(help="Time to the first token, in milliseconds.", min=0)
    ] = 200,
    tokens_per_s: Annotated[float, typer.Option(help="Pace after it; 0 is as fast as possible.", min=0)] = 80,
    output_tokens: Annotated[int, typer.Option(help="Length of an answer, in tokens.", min=1)] = 64,
    style: Annotated[str, typer.Option(help=f"Style of the answers: {_STYLES}.")] = "plain",
    change_at: Annotated[
        int | None,
        typer.Option(help="From this call on (the first is 1) the style is --change-style.", min=1),
    ] = None,
    change_style: Annotated[str, typer.Option(help="The style after --change-at.")] = "terse",
    bill: Annotated[
        Path | None, typer.Option(help="Append the bill to this file, one JSON line per billed call.")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help="A key that is let in; may be given several times. None: any key."),
    ] = None,
) -> None:
    """Run a simulated provider: OpenAI's API over real HTTP, without a model.

    It serves chat and legacy completions, embeddings and models, plain and
    streamed, under any model name. The same request gets the same answer.
    Four characters are one token, in prompts and in answers.

    A call directs itself by a field "simulate" in its JSON body, such as
    {"fault": "cut", "fault_after_chunks": 5}, or by headers such as
    x-simulate-fault: cut. The keys: first_token_ms, tokens_per_s,
    output_tokens, overrun_tokens (billed on top of them), style, says (the
    text of the answer), split (bytes per HTTP chunk), fault,
    fault_after_chunks, retry_after, retry_after_ms.

    A fault it does not know is answered with the list of all of them.

    POST /_simulator/script {"script": ["status_500", null]} fails the next
    call and spares the one after it.

    GET /_simulator/bill shows what was billed, /_simulator/requests what was
    asked, /_simulator/departed who left before the answer was complete.
    """
    try:
        settings = Settings(
            seed=seed,
            first_token_ms=first_token_ms,
            tokens_per_s=tokens_per_s,
            output_tokens=output_tokens,
            style=style,
            change_at=change_at,
            change_style=change_style,
            bill=bill,
            api_keys=tuple(api_key or ()),
        )
        asyncio.run(run(host, port, settings, _announce))
    except ValueError as exc:
        _fail(str(exc))
    except OSError as exc:
        if exc.filename is not None:
            _fail(f"The bill {exc.filename} cannot be written: {os.strerror(exc.errno or 0)}.")
        # Errors of the resolver have negative numbers.
        why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else "that is no address of this machine"
        _fail(f"Cannot listen on {host}:{port}: {why}. Choose another --port or --host.")


def _announce(simulator: Simulator) -> None:
    key = simulator.settings.api_keys[0] if simulator.settings.api_keys else "any"
    body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'
    typer.echo(f"Simulated provider at {simulator.url} (Ctrl-C stops it). Try:")
    typer.echo(
        f"curl -s {simulator.url}/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def _fail(message: str) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(2) from None
