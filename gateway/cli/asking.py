"""How commands ask a running gateway: over its admin port, found in the state folder or given."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import typer

ANSWER_S = 60.0
KEY = "HEADGATE_ADMIN_KEY"

AdminOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help=f"Admin port of the gateway to ask, like http://127.0.0.1:9464; {KEY} holds the admin key. "
        "If it is not given: the gateway that runs on --state.",
    ),
]
StateOption = Annotated[
    Path, typer.Option(envvar="HEADGATE_STATE", metavar="DIR", help="State folder of the gateway.")
]
DEFAULT_STATE = Path(".headgate")


class CannotAsk(Exception):
    """A sentence for the operator."""


class Admin:
    """The admin API at a URL, or at HOST:PORT. Raises `CannotAsk` for another kind of URL."""

    def __init__(self, url: str) -> None:
        self._url = (url if "://" in url else f"http://{url}").rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise CannotAsk("--admin takes a URL like http://127.0.0.1:9464.")

    def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The body of the answer. Raises `CannotAsk`, with what the gateway says."""
        given = {name: value for name, value in (query or {}).items() if value}
        return self._ask(Request(self._url + path + (f"?{urlencode(given)}" if given else "")))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of the answer. Raises `CannotAsk`."""
        given = {name: value for name, value in body.items() if value}
        headers = {"content-type": "application/json"}
        return json.loads(
            self._ask(Request(self._url + path, json.dumps(given).encode(), headers, method="POST"))
        )

    def _ask(self, request: Request) -> bytes:
        key = os.environ.get(KEY)
        if key:
            request.add_unredirected_header("authorization", f"Bearer {key}")
        try:
            with urlopen(request, timeout=ANSWER_S) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            raise CannotAsk(_said(error)) from None
        except (URLError, OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CannotAsk(f"No gateway answers at {self._url}: {reason}.") from None


def running(state: Path) -> Admin | None:
    """The gateway that runs on a state folder."""
    try:
        run = json.loads((state / "run.json").read_text())
        os.kill(run["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    host, _, port = str(run["admin"]).rpartition(":")
    # One that listens everywhere is asked by the name that needs no key.
    return Admin(f"http://{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}")


def gateway(admin: str, state: Path) -> Admin:
    """The gateway to ask. Raises `CannotAsk` if none runs on the state folder."""
    found = Admin(admin) if admin else running(state)
    if found is None:
        raise CannotAsk(f"No gateway runs on the state folder {state}; give --admin URL or --state DIR.")
    return found


@contextmanager
def ledger_of(state: Path) -> Iterator[sqlite3.Connection]:
    """The ledger of a state folder on which no gateway runs, to be read only. Raises `CannotAsk`."""
    file = state / "ledger.db"
    if not file.exists():
        raise CannotAsk(
            f"No gateway runs on the state folder {state}, and it holds no ledger; give --admin URL or "
            "--state DIR."
        )
    try:
        connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CannotAsk(f"{file} cannot be read: {error}.") from None


def path_of(*parts: str) -> str:
    """A path of the admin API."""
    return "/admin/" + "/".join(quote(part, safe="") for part in parts)


@contextmanager
def telling() -> Iterator[None]:
    """Ends the command with exit code 2 and one line on stderr if it cannot be done."""
    try:
        yield
    except CannotAsk as why:
        typer.echo(f"headgate: {why}", err=True)
        raise typer.Exit(2) from None


def _said(error: HTTPError) -> str:
    try:
        message = str(json.loads(error.read())["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"The gateway answered {error.code}."
    return f"{message} (Set {KEY}.)" if error.code == 401 and not os.environ.get(KEY) else message
