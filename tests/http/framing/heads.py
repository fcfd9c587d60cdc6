"""What a head may be: request line, names and values, hosts, credentials, upgrades, limits (RFC 9112 2-5)."""

from __future__ import annotations

from tests.http.framing.payload import (
    AUTH,
    BODY,
    CLOSE,
    HOST,
    LENGTH,
    Payload,
    call,
    head,
    refused,
    served,
    unheard,
    waits,
)

PATH = b"/v1/chat/completions"


def line(request_line: bytes) -> bytes:
    """A call with this request line, without its end."""
    return request_line + b"\r\n" + HOST + AUTH + LENGTH + b"\r\n" + BODY


def to(target: bytes) -> bytes:
    """A call to this target."""
    return head(LENGTH, target=target) + BODY


def by(method: bytes) -> bytes:
    """A call by this method."""
    return head(LENGTH, method=method) + BODY


def hosts(*lines: bytes) -> bytes:
    """A call with these lines for its host, without their ends."""
    return head(LENGTH, host=b"".join(name + b"\r\n" for name in lines)) + BODY


def keys(*lines: bytes) -> bytes:
    """A call with these lines for its key, without their ends."""
    return head(LENGTH, auth=b"".join(key + b"\r\n" for key in lines)) + BODY


def asks(upgrade: bytes, *more: bytes) -> bytes:
    """A call that asks for this protocol."""
    return call(b"Connection: Upgrade, HTTP2-Settings\r\n", b"Upgrade: %b\r\n" % upgrade, *more)


REQUEST_LINES: tuple[Payload, ...] = (
    served("two spaces before the target", line(b"POST  %b HTTP/1.1" % PATH)),
    served("two spaces behind the target", line(b"POST %b  HTTP/1.1" % PATH)),
    refused("tab before the target", line(b"POST\t%b HTTP/1.1" % PATH), proxied=1),
    refused("tab behind the target", line(b"POST %b\tHTTP/1.1" % PATH), proxied=1),
    refused("space before the method", line(b" POST %b HTTP/1.1" % PATH)),
    refused("space behind the version", line(b"POST %b HTTP/1.1 " % PATH), proxied=1),
    refused("space in the target", line(b"POST %b x HTTP/1.1" % PATH)),
    refused("NUL in the target", line(b"POST %b\0 HTTP/1.1" % PATH)),
    refused("bare CR in the request line", line(b"POST %b\r HTTP/1.1" % PATH)),
    refused("bare LF at the end of the request line", b"POST %b HTTP/1.1\n" % PATH + call()[38:], proxied=1),
    refused("no target", line(b"POST HTTP/1.1")),
    refused("no version", line(b"POST %b" % PATH)),
    refused("HTTP/0.9", b"GET /v1/models\r\n"),
    refused("HTTP/0.9 by name", line(b"POST %b HTTP/0.9" % PATH)),
    refused("HTTP/1.2", line(b"POST %b HTTP/1.2" % PATH), proxied=1),
    refused("HTTP/2.0", line(b"POST %b HTTP/2.0" % PATH), proxied=1),
    refused("HTTP/11", line(b"POST %b HTTP/11" % PATH)),
    refused("HTTP/1.10", line(b"POST %b HTTP/1.10" % PATH), proxied=1),
    refused("HTTP/1.01", line(b"POST %b HTTP/1.01" % PATH), proxied=1),
    refused("http/1.1 in small letters", line(b"POST %b http/1.1" % PATH)),
    refused("HTTP/1.1 behind a letter", line(b"POST %b XHTTP/1.1" % PATH)),
    refused("ICE/1.0", line(b"SOURCE %b ICE/1.0" % PATH), 405),
    refused("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 80\r\n" + call()),
    served("HTTP/1.0", head(LENGTH, version=b"HTTP/1.0") + BODY, closes=True),
    served("HTTP/1.0 without a host", head(LENGTH, version=b"HTTP/1.0", host=b"") + BODY, closes=True),
    served(
        "HTTP/1.0 that would go on", call(b"Connection: keep-alive\r\n").replace(b"1.1", b"1.0"), closes=True
    ),
    refused("method in small letters", by(b"post")),
    refused("method with a small letter", by(b"POSt")),
    refused("method nobody knows", by(b"FROBNICATE")),
    refused("method with a colon", by(b"PO:ST")),
    unheard("GET with a body", by(b"GET"), 405),
    unheard("PUT", by(b"PUT"), 405),
    unheard("TRACE", head(method=b"TRACE"), 405),
    unheard("OPTIONS", head(method=b"OPTIONS"), 405),
    unheard("PURGE", by(b"PURGE"), 405),
    refused("CONNECT", head(method=b"CONNECT", target=b"gateway.example:443")),
    refused("CONNECT with a path", by(b"CONNECT")),
)

TARGETS: tuple[Payload, ...] = (
    refused("absolute form", to(b"http://gateway.example" + PATH), proxied=1),
    refused("absolute form to elsewhere", to(b"http://10.0.0.1" + PATH), proxied=1),
    refused("absolute form of another scheme", to(b"file:///etc/passwd")),
    refused("authority form", to(b"gateway.example:443")),
    refused("asterisk form", to(b"*")),
    refused("asterisk form of OPTIONS", head(method=b"OPTIONS", target=b"*")),
    refused("path without a slash", to(b"v1/chat/completions")),
    refused("user and host", to(b"@elsewhere/v1/chat/completions")),
    unheard("two slashes", to(b"//v1/chat/completions"), 404),
    unheard("two slashes within", to(b"/v1//chat/completions"), 404),
    unheard("slash at the end", to(PATH + b"/"), 404),
    unheard("dot", to(b"/v1/./chat/completions"), 404),
    unheard("dots", to(b"/v1/x/../chat/completions"), 404),
    unheard("dots out of the root", to(b"/../../etc/passwd"), 404),
    unheard("dots, encoded", to(b"/v1/%2e%2e/chat/completions"), 404),
    unheard("slash, encoded", to(b"/v1%2fchat/completions"), 404),
    unheard("letter, encoded", to(b"/v1/ch%61t/completions"), 404),
    unheard("NUL, encoded", to(PATH + b"%00"), 404),
    unheard("line end, encoded", to(PATH + b"%0d%0aX:y"), 404),
    unheard("percent sign alone", to(PATH + b"%"), 404),
    unheard("parameter", to(PATH + b";x=y"), 404),
    unheard("backslash", to(b"\\v1\\chat\\completions".replace(b"\\", b"/\\", 1)), 404),
    unheard("capital letters", to(PATH.upper()), 404),
    served("query", to(PATH + b"?a=b")),
    served("two question marks", to(PATH + b"??a=/../b")),
    served("empty query", to(PATH + b"?")),
    served("line end in the query, encoded", to(PATH + b"?a=%0d%0aHost:%20x")),
    refused("target above the limit", to(PATH + b"?" + b"x" * 66_000), 431),
)

FIELDS: tuple[Payload, ...] = (
    refused("bare LF in a header", call(b"X: y\nZ: z\r\n"), proxied=1),
    refused("bare CR in a header", call(b"X: y\rZ: z\r\n")),
    refused("bare LFs everywhere", call().replace(b"\r\n", b"\n"), proxied=1),
    refused("bare LF at the end of the head", head(LENGTH)[:-2] + b"\n" + BODY, proxied=1),
    refused("CR CR LF", call(b"X: y\r\r\n"), proxied=1),
    refused("folded", call(b"X: y\r\n z\r\n"), proxied=1),
    refused("folded by a tab", call(b"X: y\r\n\tz\r\n"), proxied=1),
    refused("folded first line", line(b"POST %b HTTP/1.1\r\n X: y" % PATH)),
    refused("space before a colon", call(b"X : y\r\n")),
    refused("tab before a colon", call(b"X\t: y\r\n")),
    refused("no colon", call(b"X\r\n"), proxied=1),
    refused("no name", call(b": y\r\n")),
    refused("space for a name", call(b" : y\r\n"), proxied=1),
    refused("NUL in a name", call(b"X\0: y\r\n")),
    refused("NUL in a value", call(b"X: \0\r\n")),
    refused("control byte in a value", call(b"X: \x01\r\n"), proxied=1),
    refused("escape in a value", call(b"X: \x1b[2J\r\n"), proxied=1),
    refused("DEL in a value", call(b"X: \x7f\r\n"), proxied=1),
    refused("brackets in a name", call(b"X(y): z\r\n")),
    refused("slash in a name", call(b"X/y: z\r\n")),
    refused("at sign in a name", call(b"X@y: z\r\n")),
    refused("letters beyond ASCII in a name", call("Ü: z\r\n".encode())),
    served("letters beyond ASCII in a value", call("X: ü\r\n".encode())),
    served("bytes that are no UTF-8 in a value", call(b"X: \xff\xfe\r\n")),
    served("empty value", call(b"X:\r\n")),
    served("odd but lawful name", call(b"!#$%&'*+-.^_`|~9: z\r\n")),
    served("the same name twice", call(b"X: y\r\nX: z\r\n")),
    served(
        "headers for the provider alone",
        call(b"Cookie: a=b\r\n", b"X-Forwarded-For: 10.0.0.1\r\n", b"OpenAI-Organization: mine\r\n"),
    ),
    served(
        "hop-by-hop headers", call(b"Keep-Alive: 9\r\n", b"Proxy-Authorization: x\r\n", b"TE: trailers\r\n")
    ),
    served("headers of routes", call(b"X-Original-URL: /x\r\n", b"X-HTTP-Method-Override: DELETE\r\n")),
    served("headers named in Connection", call(b"Connection: authorization, host\r\n")),
    served("97 headers more", call(b"X: y\r\n" * 97)),
    refused("98 headers more", call(b"X: y\r\n" * 98), 431),
    refused("1,000 headers", call(b"X: y\r\n" * 1000), 431),
    served("value of 60 KiB", call(b"X: " + b"y" * 60 * 1024 + b"\r\n")),
    refused("value of 64 KiB", call(b"X: " + b"y" * 64 * 1024 + b"\r\n"), 431),
    refused("name of 64 KiB", call(b"X" * 64 * 1024 + b": y\r\n"), 431),
    waits("half a head", head(LENGTH)[:-2]),
    waits("half a request line", b"POST /v1"),
    waits("one letter", b"P"),
)

HOSTS: tuple[Payload, ...] = (
    refused("no host", hosts()),
    refused("two hosts", hosts(b"Host: gateway.example", b"Host: elsewhere.example")),
    refused("two hosts, the same", hosts(b"Host: gateway.example", b"Host: gateway.example"), proxied=1),
    refused("two hosts in one line", hosts(b"Host: gateway.example, elsewhere.example")),
    refused("host with a path", hosts(b"Host: gateway.example/x"), proxied=1),
    refused("host with a user", hosts(b"Host: user@gateway.example"), proxied=1),
    refused("host with a space", hosts(b"Host: gateway example")),
    refused("host with a question mark", hosts(b"Host: gateway.example?x"), proxied=1),
    refused("host with a backslash", hosts(b"Host: gateway.example\\x"), proxied=1),
    refused("host beyond ASCII", hosts("Host: gäteway.example".encode()), proxied=1),
    refused("host with a space before its colon", hosts(b"Host : gateway.example")),
    served("host with a port", hosts(b"Host: gateway.example:8080")),
    served("host that is an IPv6 address", hosts(b"Host: [::1]:8080")),
    served("host in capitals", hosts(b"HOST: GATEWAY.EXAMPLE")),
    served("host that is empty", hosts(b"Host:")),
)

CREDENTIALS: tuple[Payload, ...] = (
    refused("two keys, the same", keys(AUTH[:-2], AUTH[:-2])),
    refused("two keys, the second empty", keys(AUTH[:-2], b"Authorization:")),
    refused("two keys, in other letters", keys(b"authorization: Bearer x", AUTH[:-2])),
    refused("x-api-key twice", keys(AUTH[:-2], b"x-api-key: a", b"X-API-Key: b")),
    refused("api-key twice", keys(AUTH[:-2], b"api-key: a", b"api-key: a")),
    refused("key in a folded line", keys(AUTH[:-2].replace(b": ", b":\r\n ")), proxied=1),
    unheard("no key", keys(), 401),
    unheard("wrong key", keys(b"Authorization: Bearer hg-wrong"), 401),
    unheard("key of another scheme", keys(AUTH[:-2].replace(b"Bearer", b"Basic")), 401),
    unheard("two keys in one line", keys(AUTH[:-2] + b", Bearer x"), 401),
    served("key in x-api-key", keys(AUTH[:-2].replace(b"Authorization: Bearer", b"X-API-Key:"))),
)

UPGRADES: tuple[Payload, ...] = (
    served("h2c", asks(b"h2c", b"HTTP2-Settings: AAMAAABkAAQ\r\n")),
    served("h2c, and another call", asks(b"h2c") + call(), calls=2),
    served("h2c that closes", call(b"Connection: upgrade, close\r\nUpgrade: h2c\r\n"), closes=True),
    served("TLS", asks(b"TLS/1.3")),
    served("upgrade that Connection does not name", call(b"Upgrade: websocket\r\n")),
    served("Connection that names no upgrade", call(b"Connection: upgrade\r\n")),
    refused("websocket", asks(b"websocket"), 501, proxied=1),
    refused("WebSocket", asks(b"WebSocket"), 501, proxied=1),
    refused("h2c or websocket", asks(b"h2c, websocket"), 501, proxied=1),
    served("upgrade twice", asks(b"h2c", b"Upgrade: foo\r\n")),
    refused("h2c with length and chunked", asks(b"h2c", b"Transfer-Encoding: chunked\r\n"), proxied=1),
    refused("h2c with two keys", asks(b"h2c", AUTH)),
    served("close in capitals", call(b"CONNECTION: CLOSE\r\n"), closes=True),
    served("keep-alive and close", call(b"Connection: keep-alive, close\r\n"), closes=True),
    served("close twice", call(CLOSE, CLOSE), closes=True),
)
