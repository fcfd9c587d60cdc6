#!/bin/sh
# Runs the tests on all cores and asks for 90 % coverage, subprocesses included. With arguments that choose
# tests (ARGS="tests/wire -k usage") coverage is not asked for.
set -eu
cd "$(dirname "$0")/.."
for argument in "$@"; do
    case $argument in
        tests/* | -k*) exec .venv/bin/python -m pytest "$@" ;;
    esac
done
rm -f .coverage .coverage.*
status=0
.venv/bin/python -m coverage run -m pytest --numprocesses auto "$@" || status=$?
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report --skip-covered || status=$?
exit $status
