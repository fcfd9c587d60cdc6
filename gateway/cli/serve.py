"""`headgate serve`: checks the arguments, then becomes the supervisor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.policy import duration


def _duration(text: str) -> float:
    seconds = duration.seconds(text)
    if seconds is None or seconds > 86400:
        raise typer.BadParameter("takes a duration of at most 24h, for example 10s, 2m or 0s.")
    return seconds


def serve(
    policies: Annotated[
        Path, typer.Option(envvar="HEADGATE_POLICIES", help="Folder of policy files (YAML).")
    ] = Path("policies"),
    state: Annotated[
        Path,
        typer.Option(envvar="HEADGATE_STATE", help="Folder for what must outlive a restart; made if absent."),
    ] = Path(".headgate"),
    listen: Annotated[
        str, typer.Option(envvar="HEADGATE_LISTEN", help="HOST:PORT for callers. Port 0: any free one.")
    ] = "127.0.0.1:8080",
    admin: Annotated[
        str,
        typer.Option(
            envvar="HEADGATE_ADMIN",
            help="HOST:PORT for /livez, /readyz, /metrics and the admin API. "
            "Off loopback it needs HEADGATE_ADMIN_KEY, or admin.keys in the policy.",
        ),
    ] = "127.0.0.1:9464",
    workers: Annotated[
        int,
        typer.Option(
            envvar="HEADGATE_WORKERS", min=1, max=256, help="Worker processes; one per core at most."
        ),
    ] = 1,
    log: Annotated[
        str, typer.Option(envvar="HEADGATE_LOG", help="File for the JSON log of calls, or - for stdout.")
    ] = "-",
    max_connections_per_address: Annotated[
        int,
        typer.Option(
            envvar="HEADGATE_MAX_CONNECTIONS_PER_ADDRESS",
            min=0,
            help="Callers' connections from one IP address, per worker; 0: no cap. Set it where callers "
            "connect directly, for behind a proxy they all have its address.",
        ),
    ] = 0,
    drain_delay: Annotated[
        float,
        typer.Option(
            envvar="HEADGATE_DRAIN_DELAY",
            metavar="DURATION",
            parser=_duration,
            help="After SIGTERM, how long new calls are still served while load balancers move on.",
        ),
    ] = "10s",  # type: ignore[assignment]
    max_stream: Annotated[
        float,
        typer.Option(
            envvar="HEADGATE_MAX_STREAM",
            metavar="DURATION",
            parser=_duration,
            help="After that, how long the calls under way may take to finish.",
        ),
    ] = "10m",  # type: ignore[assignment]
    banner: Annotated[
        bool | None, typer.Option(help="Print lines to paste when ready [default: on a terminal].")
    ] = None,
) -> None:
    """Serve: relay calls by the policies of a folder.

    Policy files are read again when they change, and on SIGHUP. SIGTERM turns /readyz red, serves on for
    the drain delay, finishes what is under way and exits 0; SIGINT does so without the delay; a second
    signal cuts. Diagnostics go to stderr, one JSON line per call to the log.
    """
    if not policies.is_dir():
        typer.echo(f"headgate: there is no policy folder {policies}; give one with --policies.", err=True)
        raise typer.Exit(2)
    command = [sys.executable, "-m", "gateway.control.supervisor"]
    command += ["--policies", str(policies), "--state", str(state), "--listen", listen, "--admin", admin]
    command += ["--workers", str(workers), "--log", log]
    command += ["--drain-delay", str(drain_delay), "--max-stream", str(max_stream)]
    command += ["--max-connections-per-address", str(max_connections_per_address)]
    if banner or (banner is None and sys.stderr.isatty()):
        command.append("--banner")
    # Becomes the supervisor: the same process id, without the memory of the command line's libraries.
    os.execv(sys.executable, command)
