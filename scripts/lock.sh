#!/bin/sh
# Resolves the dependencies of pyproject.toml anew, for every Python from 3.11.0 on and every platform, and
# writes the locks. Needs `uv` on PATH (pip install uv).
set -eu
cd "$(dirname "$0")/.."

command -v uv >/dev/null || { echo "headgate: make lock needs uv: pip install uv" >&2; exit 1; }
compile="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
    --upgrade"
$compile pyproject.toml --output-file requirements.lock
# Caps of clients that tests use, which hold them back for nothing that is used here: llama-index has openai below
# 3, instructor rich below 15 (for its command line; typer's is 15) and jiter below 0.15 (openai's is above).
printf '%s\n' 'openai>=3.57' 'rich>=13.7' 'jiter>=0.16' |
    $compile pyproject.toml --group dev --constraints requirements.lock --overrides - \
        --output-file requirements-dev.lock
$compile --group build --constraints requirements-dev.lock --output-file requirements-build.lock
