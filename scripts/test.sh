#!/bin/sh
# Runs the tests on all cores: `test.sh quick` as fast as they go, `test.sh covered` asking for 90 % coverage,
# subprocesses included (that costs a third more time). Arguments go on to pytest.
set -eu
cd "$(dirname "$0")/.."
kind=$1
shift
# Compiled once, and not by each of the hundred gateways that tests start: 0.5 s of CPU for each of them, 10 s for
# each of the processes that collect tests.
unset PYTHONDONTWRITEBYTECODE
if [ "$kind" = quick ]; then
    exec .venv/bin/python -m pytest --numprocesses auto "$@"
fi
rm -f .coverage .coverage.*
status=0
.venv/bin/python -m coverage run -m pytest --numprocesses auto "$@" || status=$?
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report --skip-covered || status=$?
exit $status
