#!/bin/sh
# Builds the OpenTelemetry collector that tests send to, from Go modules pinned by tests/telemetry/otelcol/go.sum,
# into .tools/; nothing is done if it is there already.
set -eu
cd "$(dirname "$0")/.."
source=tests/telemetry/otelcol
stamp=$(cat "$source/main.go" "$source/go.mod" "$source/go.sum" | cksum)
if [ -x .tools/otelcol ] && [ "$(cat .tools/otelcol.stamp 2>/dev/null)" = "$stamp" ]; then
    echo "The OpenTelemetry collector is there: .tools/otelcol"
    exit 0
fi
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
    echo "headgate: Go is needed to build the OpenTelemetry collector of the tests: https://go.dev/doc/install" >&2
    exit 1
fi
echo "Building the OpenTelemetry collector, for a minute or two"
mkdir -p .tools
(cd "$source" && go build -trimpath -ldflags='-s -w' -o ../../../.tools/otelcol.new .)
mv .tools/otelcol.new .tools/otelcol
echo "$stamp" >.tools/otelcol.stamp
