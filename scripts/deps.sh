#!/bin/sh
# Installs the system packages that `make test-all` and `make bench` need, with apt. The only thing that does.
set -eu

packages="python3-venv gcc libc6-dev nginx-light haproxy slowhttptest wrk curl redis-server prometheus chromium"
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' \
        || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "All system packages are there: $packages"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "headgate: no apt-get here; install these by your system's means:$missing" >&2
    exit 1
fi
root=
[ "$(id -u)" = 0 ] || root="sudo "
install="${root}env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends$missing"
echo "${root}apt-get update -q && $install"
${root}apt-get update -q
$install
