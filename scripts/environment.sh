#!/bin/sh
# Makes or completes .venv: `environment.sh run` for what Headgate needs, `environment.sh dev` for its tests
# and checks too. Only what a lock names is installed, by hash, as wheels. A second run does nothing.
set -eu
cd "$(dirname "$0")/.."
kind=$1

locks="requirements-build.lock requirements.lock"
[ "$kind" = run ] || locks="$locks requirements-dev.lock"
python=$(sh scripts/python.sh)
state=$({ echo "$python"; "$python" -V; cat pyproject.toml requirements*.lock; } | cksum)
[ "$(cat .venv/.headgate-dev 2>/dev/null)" != "$state" ] || exit 0
[ "$(cat ".venv/.headgate-$kind" 2>/dev/null)" != "$state" ] || exit 0

if [ "$(cat .venv/.headgate-python 2>/dev/null)" != "$python $("$python" -V)" ]; then
    echo "Making .venv with $python ($("$python" -V))" >&2
    rm -rf .venv
    "$python" -m venv .venv
    echo "$python $("$python" -V)" > .venv/.headgate-python
fi
for lock in $locks; do
    echo "Installing $lock" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: -r "$lock" >&2
done
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index \
    -e . >&2
echo "$state" > ".venv/.headgate-$kind"
