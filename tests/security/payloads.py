"""Requests that try to have another place called than the policy names: what gateways have fallen for.

CVE-2024-6587 (api_base), PYSEC-2026-4070 (api_base inside user_config), CVE-2025-66405 (a custom host
header), CVE-2026-75871 (Host), CVE-2026-55245 (CGNAT, 6to4, NAT64), GO-2026-5652 (0.0.0.0) are among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.running import KEY

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


def places(port: int) -> list[str]:
    """URLs of a port of this host as an attacker would spell them, and of what is worth reading elsewhere."""
    hosts = [
        "127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]", "user@127.0.0.1",
        "api.openai.com@127.0.0.1", "127.0.0.1.nip.io", "localtest.me", "xn--fiq228c.example",
        "①②⑦.⓪.⓪.①", "100.64.0.1", "api.openai.com\\@127.0.0.1",
    ]  # fmt: skip
    return [
        *(f"http://{host}:{port}/v1" for host in hosts),
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        f"//127.0.0.1:{port}/v1",
        f"127.0.0.1:{port}",
        f"gopher://127.0.0.1:{port}/_GET",
        f"https://127.0.0.1:{port}#@api.openai.com",
        "file:///etc/passwd",
    ]


FIELDS = (
    "api_base",
    "base_url",
    "url",
    "endpoint",
    "host",
    "proxy",
    "api_url",
    "target",
    "webhook",
    "spec_path",
)
DEPTHS: list[Callable[[str, str], dict[str, Any]]] = [
    lambda field, url: {field: url},
    lambda field, url: {"metadata": {field: url}},
    lambda field, url: {"extra_body": {field: url}, "litellm_params": {field: url}},
    lambda field, url: {"user_config": {"model_list": [{"litellm_params": {field: url, "model": "gpt-4o"}}]}},
    lambda field, url: {"config": {"targets": [{field: url, "override_params": {field: url}}]}},
    lambda field, url: {"messages": [{"role": "user", "content": _parts(field, url)}]},
    lambda field, url: {"tools": [{"type": "mcp", "server_label": "x", "server_url": url, field: url}]},
]
HEADERS = (
    "X-Forwarded-Host", "X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL", "X-Host", "X-Real-Url",
    "Forwarded", "Proxy", "Via", "Referer", "Origin", "X-Api-Base", "Api-Base", "Base-Url", "X-Proxy-Url",
    "X-Portkey-Custom-Host", "Helicone-Target-URL", "Helicone-OpenAI-Api-Base", "X-Target-Url", "X-Upstream",
    "X-Headgate-Target", "X-Headgate-Tags", "traceparent", "openai-beta",
)  # fmt: skip


def _parts(field: str, url: str) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "file", "file": {field: url}}]


def models(port: int) -> list[str]:
    return [
        *places(port), "../../../etc/passwd", "..%2f..%2fadmin", "gpt-4o-mini/../../x", "gpt-4o-mini?x=y",
        "gpt-4o-mini#", "gpt-4o-mini@127.0.0.1", "upstream/gpt-4o-mini", "openai/gpt-4o",
        "gpt-4o-mini\r\nHost: evil.example", "gpt-4o-mini HTTP/1.1\r\nHost: evil\r\n\r\n", "gpt-4o-mini\0",
        "*",
    ]  # fmt: skip


def targets(port: int) -> list[str]:
    """What stands in a request line where a path should."""
    return [
        f"http://127.0.0.1:{port}/v1/chat/completions",
        f"https://user@127.0.0.1:{port}/v1/chat/completions",
        f"//127.0.0.1:{port}/v1/chat/completions",
        f"/v1/chat/completions@127.0.0.1:{port}",
        f"/v1/chat/completions?base_url=http://127.0.0.1:{port}&host=127.0.0.1:{port}",
        f"/v1/chat/completions#@127.0.0.1:{port}",
        f"@127.0.0.1:{port}/v1/chat/completions",
        f":{port}/v1/chat/completions",
        "/v1/../admin/reload",
        "/v1/%2e%2e/%2e%2e/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/..;/x",
        f"/openai/deployments/http:%2f%2f127.0.0.1:{port}/chat/completions?api-version=1",
        "/openai/deployments/..%2f..%2f..%2fx/chat/completions?api-version=1",
        "/openai/deployments/gpt-4o%0d%0aHost:%20evil/chat/completions?api-version=1",
        "/openai/deployments/gpt-4o%20HTTP%2f1.1%0d%0a/chat/completions",
        f"/openai/deployments/gpt-4o@127.0.0.1:{port}/chat/completions",
        f"/openai/deployments/gpt-4o/chat/completions?api-version=http://127.0.0.1:{port}",
        "/openai/deployments/gpt-4o/../../x/chat/completions",
        "/openai/deployments/gpt-4o%2f..%2f..%2fx/chat/completions",
        f"/v1/models/http:%2f%2f127.0.0.1:{port}",
    ]


def request(
    fields: Any = CHAT, *headers: str, target: str = "/v1/chat/completions", host: str = "gateway"
) -> bytes:
    """One request as bytes; values go out as they are."""
    body = json.dumps(fields).encode()
    lines = [
        f"POST {target} HTTP/1.1",
        f"host: {host}",
        f"authorization: Bearer {KEY}",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + body


def requests(port: int) -> Iterator[bytes]:
    """The table; `port` is one of this host that nobody may call."""
    for place in places(port):
        for number, field in enumerate(FIELDS):
            yield request({**CHAT, **DEPTHS[number % len(DEPTHS)](field, place)})
            yield request({**CHAT, **DEPTHS[(number + 3) % len(DEPTHS)](field, place)})
        for header in HEADERS:
            yield request(CHAT, f"{header}: {place}")
        yield request(CHAT, f"Forwarded: for=1.2.3.4;host={place};proto=http")
        yield request(CHAT, "x-portkey-config: " + json.dumps({"provider": "openai", "custom_host": place}))
        yield request(host=place.partition("//")[2].partition("/")[0] or place)
    for name in models(port):
        yield request({**CHAT, "model": name})
    for target in targets(port):
        yield request(target=target)
        yield request(target=target, host=f"127.0.0.1:{port}").replace(b"POST ", b"GET ", 1)
    yield b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % (port, port)
