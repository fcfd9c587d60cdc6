"""The command `headgate`. Every subcommand is a file beside this one, imported when it is called."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import typer

COMMANDS = {
    "serve": "Serve: relay calls by the policies of a folder.",
    "check": "Check the policies of a folder; exit 1 if something is wrong.",
    "explain": "Say what would happen to a call, and why.",
    "test": "Hold policies against what is expected of them.",
    "diff": "Say what another policy would change; hold a change to bounds.",
    "keys": "Make keys for callers.",
    "budget": "See limits and budgets; top a budget up.",
    "spend": "Show what was spent, by whom and on what.",
    "drift": "See whether models' answers changed, and what moved.",
    "probe": "Ask golden prompts, and see whether the answers are as they were.",
    "ledger": "Check the usage ledger.",
    "providers": "List the providers that are known by name.",
    "schema": "Print the JSON Schema of policy files, for editors.",
    "simulate": "Run the simulated provider.",
}
"""Name → help. `gateway.cli.NAME` holds `app`, a typer app, or a function NAME with typer's annotations."""


def new_app(help_text: str | None = None) -> typer.Typer:
    """A typer app as all of ours are: plain text (no colours in files and pipes), no traceback decoration."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = new_app("Headgate: an LLM gateway.")


def _register(name: str, help_text: str) -> None:
    # Arguments are passed on as they are: the options belong to the command's own file, and parsing them
    # here would mean importing it.
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

    @app.command(name, help=help_text, context_settings=settings, add_help_option=False)
    def run(context: typer.Context) -> None:
        module = import_module(f"gateway.cli.{name}")
        command: typer.Typer | None = getattr(module, "app", None)
        if command is None:
            command = new_app()
            command.info.no_args_is_help = False
            command.command()(getattr(module, name))
        command(context.args, prog_name=f"headgate {name}")


for _name, _help in COMMANDS.items():
    _register(_name, _help)


@app.command("version")
def show_version() -> None:
    """Print the version."""
    try:
        print(f"headgate {version('headgate')}")
    except PackageNotFoundError:
        print("headgate (not installed)")


def main() -> None:
    """The console script."""
    app(prog_name="headgate")


if __name__ == "__main__":
    main()
