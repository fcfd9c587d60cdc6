#!/bin/sh
# Prints the Python that Headgate is run with: 3.11 or newer, able to make environments, and of those a PGO
# build if there is one (the others need 7-15 % more CPU a call). PYTHON=... chooses one yourself.
set -eu

check='
import sys, sysconfig, os
if sys.version_info < (3, 11) or sys.implementation.name != "cpython": sys.exit(1)
try: import venv, ensurepip
except ImportError: sys.exit(2)
flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
# Debian runs the profiled build itself, which leaves no trace in the flags.
debian = os.path.exists("/etc/debian_version") and sys.base_prefix == "/usr"
print("pgo" if "--enable-optimizations" in flags or debian else "plain", sys.executable)
'

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates="/usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14"
fi
plain= without_venv=
for candidate in $candidates; do
    found=$("$candidate" -c "$check" 2>/dev/null) && status=0 || status=$?
    case "$status $found" in
        "0 pgo "*) echo "${found#pgo }"; exit 0 ;;
        "0 plain "*) [ -n "$plain" ] || plain=${found#plain } ;;
        "2 "*) without_venv=$candidate ;;
    esac
done
if [ -n "$plain" ]; then
    echo "$plain"
elif [ -n "$without_venv" ]; then
    echo "headgate: $without_venv cannot make environments; on Debian: apt-get install python3-venv" >&2
    exit 1
else
    echo "headgate: no Python 3.11 or newer here; install one, or name one with PYTHON=/path/to/python3" >&2
    exit 1
fi
