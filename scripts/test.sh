#!/bin/sh
# Runs the tests on all cores: `test.sh quick` as fast as they go, `test.sh covered` asking for 90 % coverage,
# subprocesses included (that costs a third more time). Arguments go on to pytest.
set -eu
cd "$(dirname "$0")/.."
kind=$1
shift
# Where this is set, each of the hundred gateways that tests start compiles all its files again, a third of
# its CPU until it is ready; and each process that collects tests compiles all of theirs, 10 s.
unset PYTHONDONTWRITEBYTECODE
# Neighbours go to one process as long as all have some: what a module makes for all its tests is made once.
set -- --numprocesses auto --dist worksteal "$@"
if [ "$kind" = quick ]; then
    exec .venv/bin/python -m pytest "$@"
fi
rm -f .coverage .coverage.*
status=0
.venv/bin/python -m coverage run -m pytest "$@" || status=$?
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report --skip-covered || status=$?
exit $status
