"""One provider of a policy → its row of the tables: preset, URL, keys and headers, checked."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.policy.merge import Policy
from gateway.policy.parts import SecretRef
from gateway.policy.problem import NOT_READ, Problem, SecretError, did_you_mean
from gateway.policy.providers import BY_DIALECT, PRESETS, Preset
from gateway.policy.spec import ProviderSpec

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?|[0-9a-f:.]+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_SECRET = re.compile(r"[\x21-\x7e]{1,8192}")
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to the connection or the body: setting them would break the framing."""
_CREDENTIALS = frozenset({"authorization", "api-key", "x-api-key", "cookie"})
"""Headers whose values are secrets and so never stand in a file."""


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """A provider as compiled. `price_id` and `price_url` say where its prices are looked up."""

    table: dict[str, Any]
    price_id: str | None
    price_url: str


MIN_SECRET = 8
"""Shorter ones are placeholders ("none", "ollama"): to hide them would hide ordinary words."""
CALLER_KEY_PREFIX = "hg-"
"""What the keys begin with that `headgate keys new` makes."""


class Unusable(Exception):
    """The provider has no row: its problems are noted, or it is optional and has no key."""


class ProviderCompiler:
    """Compiles providers; mistakes and warnings go to the lists it was given."""

    def __init__(
        self,
        policy: Policy,
        problems: list[Problem],
        warnings: list[Problem],
        secret_of: Callable[[SecretRef], str],
        simulated_url: str | None,
    ) -> None:
        self._policy = policy
        self._problems = problems
        self._warnings = warnings
        self._secret_of = secret_of
        self._simulated_url = simulated_url

    def row(self, name: str, spec: ProviderSpec, row_of: Callable[[str], int]) -> ProviderRow:
        """The row of one provider. Raises `Unusable`."""
        path = ("providers", name)
        wrong = len(self._problems)
        preset = self._preset(name, spec)
        dialect = spec.dialect or preset.dialect
        url = self._url(path, spec, preset, dialect)
        refs = spec.secrets
        if not refs and preset.key_env is not None and spec.auth != "none":
            refs = (SecretRef(env=preset.key_env),)
        auth = spec.auth or (preset.auth if refs else "none")
        if auth != "none" and not refs:
            self._say((*path, "auth"), "needs an api_key: {env: NAME} or {file: /path}")
        if auth == "none" and refs:
            self._say((*path, "auth"), "is none, so an api_key has no use; remove one of the two")
        if dialect != "azure":
            for field in ("resource", "api_version"):
                if getattr(spec, field) is not None:
                    self._say((*path, field), "is for dialect azure only")
        has_responses = preset.responses if spec.responses is None else spec.responses
        if spec.responses and (spec.api_version is not None or dialect == "anthropic"):
            self._say((*path, "responses"), f"is not for {_what_has_no_responses(spec)}")
        own = self._headers(path, spec)
        given = {name.lower() for name in own}
        headers = {name: value for name, value in preset.headers.items() if name not in given} | own
        proxy = self._proxy(path, spec)
        if (spec.tls.client_cert is None) != (spec.tls.client_key is None):
            self._say((*path, "tls"), "client_cert and client_key come together")
        if url is not None and url.scheme == "http" and spec.tls.model_fields_set:
            self._say((*path, "tls"), "has no effect on a base_url with http")
        if not spec.tls.verify:
            self._warn(
                (*path, "tls", "verify"), "any certificate is accepted: whoever is in between can read all"
            )
        secrets = self._keys(path, spec, refs)
        if len(self._problems) > wrong or url is None:
            raise Unusable
        host = (
            (url.hostname or "").encode("idna").decode() if ":" not in (url.hostname or "") else url.hostname
        )
        table = {
            "name": name,
            "dialect": dialect,
            "scheme": url.scheme,
            "host": host,
            "port": url.port or _PORTS[url.scheme],
            "base_path": url.path.rstrip("/"),
            "api_version": spec.api_version,
            "auth": auth,
            "responses": dialect == "responses" or has_responses,
            "stream_options": preset.stream_options if spec.stream_options is None else spec.stream_options,
            "cap_field": _cap_field(preset, spec),
            "keys": [
                {"name": key, "secret": secret, "row": row_of(key)}
                for key, secret in ((f"{name}#{number}", secret) for number, secret in secrets)
            ],
            "headers": headers,
            "ca_file": spec.tls.ca_file,
            "client_cert": spec.tls.client_cert,
            "client_key": spec.tls.client_key,
            "verify": spec.tls.verify,
            "proxy": proxy,
            "secrets": _secrets(spec, [secret for _, secret in secrets], headers, proxy),
            "otel_name": preset.otel_name or name,
            "max_connections": spec.max_connections,
            "idle_s": spec.idle,
        }
        return ProviderRow(table, preset.prices, url.geturl())

    def _say(self, path: Sequence[str | int], message: str) -> None:
        self._problems.append(self._policy.problem(path, message))

    def _warn(self, path: Sequence[str | int], message: str) -> None:
        self._warnings.append(self._policy.problem(path, message))

    def _preset(self, name: str, spec: ProviderSpec) -> Preset:
        if spec.preset is not None:
            if spec.preset not in PRESETS:
                hint = did_you_mean(spec.preset, PRESETS)
                self._say(
                    ("providers", name, "preset"),
                    f"is not a known provider{hint}; known: {', '.join(PRESETS)}",
                )
                raise Unusable
            return PRESETS[spec.preset]
        if spec.dialect is not None and spec.dialect in BY_DIALECT:
            return _elsewhere(PRESETS[BY_DIALECT[spec.dialect]], spec)
        own = PRESETS.get(name)
        if own is None:
            return Preset(None)
        return _elsewhere(own, spec)

    def _url(
        self, path: tuple[str, ...], spec: ProviderSpec, preset: Preset, dialect: str
    ) -> SplitResult | None:
        field = (*path, "resource") if spec.resource is not None else (*path, "base_url")
        text = spec.base_url or preset.base_url
        if spec.resource is not None:
            text = f"https://{spec.resource}.openai.azure.com"
        elif text is None and dialect == "simulated":
            text = self._simulated_url
            if text is None:
                self._say(
                    field, "is missing: where does the simulated provider listen? ('headgate serve' runs one)"
                )
                return None
        if text is None:
            what = "resource or base_url" if dialect == "azure" else "base_url"
            self._say(path, f"{what} is missing: where is its API?")
            return None
        message = url_mistake(text)
        if message:
            self._say(field, message)
            return None
        url = urlsplit(text)
        if dialect == "azure":
            # Both spellings of Azure's address are in use: the bare resource, and with /openai or /openai/v1.
            base = url.path.rstrip("/").removesuffix("/v1").removesuffix("/openai")
            url = url._replace(path=base if spec.api_version else f"{base}/openai/v1")
        return url

    def _keys(
        self, path: tuple[str, ...], spec: ProviderSpec, refs: tuple[SecretRef, ...]
    ) -> list[tuple[int, str]]:
        """(number counted from 1, secret) of the keys that are there."""
        found = []
        missing = []
        for number, ref in enumerate(refs):
            place: Sequence[str | int] = (*path, "api_keys", number) if spec.api_keys else (*path, "api_key")
            try:
                secret = self._secret_of(ref)
            except SecretError as exc:
                missing.append((place, str(exc)))
                continue
            if spec.optional and secret.startswith(CALLER_KEY_PREFIX):
                # Who pasted `export OPENAI_API_KEY=hg-…` and starts a gateway from that shell.
                missing.append((place, f"{ref.env or ref.file} holds a key of a gateway's caller"))
                continue
            if not _SECRET.fullmatch(secret):
                where = f"the environment variable {ref.env}" if ref.env else f"the file {ref.file}"
                self._say(
                    place, f"{where} holds something else than one line of printable ASCII without spaces"
                )
            else:
                found.append((number + 1, secret))
        if not spec.optional:
            for place, message in missing:
                self._say(place, message)
        elif missing and not found:
            self._warn(path, f"left out, since it is optional and {missing[0][1]}")
            raise Unusable
        else:
            for place, message in missing:
                self._warn(place, f"this key is left out: {message}")
        return found

    def _headers(self, path: tuple[str, ...], spec: ProviderSpec) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, value in spec.headers.items():
            place = (*path, "headers", name)
            lower = name.lower()
            if not _HEADER.fullmatch(name):
                self._say(place, "is not a name of a header")
            elif lower in _OURS:
                self._say(place, "is set by the gateway itself")
            elif lower in {other.lower() for other in headers}:
                self._say(place, "is given twice; upper and lower case are the same")
            elif lower in _CREDENTIALS and isinstance(value, str):
                self._say(place, "is a secret; write {env: NAME} or {file: /path}, or use api_key")
            else:
                text = value if isinstance(value, str) else self._secret(place, value)
                if text is not None and not re.fullmatch(r"[\x20-\x7e]{0,8192}", text):
                    self._say(place, "must be one line of printable ASCII")
                elif text is not None:
                    headers[name] = text
        return headers

    def _proxy(self, path: tuple[str, ...], spec: ProviderSpec) -> str | None:
        if spec.proxy is None:
            return None
        place = (*path, "proxy")
        is_ref = isinstance(spec.proxy, SecretRef)
        text = self._secret(place, spec.proxy) if isinstance(spec.proxy, SecretRef) else spec.proxy
        if text is None or text == NOT_READ:
            return None
        message = url_mistake(text, credentials=is_ref)
        if not message and (urlsplit(text).scheme != "http" or urlsplit(text).path not in ("", "/")):
            message = "must be http://host:port"
        if message:
            self._say(place, message)
        return text.rstrip("/")

    def _secret(self, place: Sequence[str | int], ref: SecretRef) -> str | None:
        try:
            return self._secret_of(ref)
        except SecretError as exc:
            self._say(place, str(exc))
            return None


def _elsewhere(preset: Preset, spec: ProviderSpec) -> Preset:
    """A preset for a provider whose `base_url` is given: elsewhere than where the preset's provider is, its
    key must not go unasked, nor do its prices hold."""
    if spec.base_url is not None and preset.base_url is not None:
        return replace(preset, base_url=None, key_env=None, prices=None)
    return preset


def _what_has_no_responses(spec: ProviderSpec) -> str:
    return "dialect anthropic" if spec.api_version is None else "Azure's dated API; leave out api_version"


def _cap_field(preset: Preset, spec: ProviderSpec) -> str:
    """Azure's dated API knows `max_completion_tokens` from 2024-09-01-preview on (with o1)."""
    dated = spec.api_version
    return "max_tokens" if dated is not None and dated < "2024-09-01" else preset.cap_field


def _secrets(
    spec: ProviderSpec, keys: Sequence[str], headers: Mapping[str, str], proxy: str | None
) -> list[str]:
    """What must not be told to callers if the provider, or a proxy before it, quotes it."""
    found = list(keys)
    for name, value in spec.headers.items():
        if isinstance(value, SecretRef):
            # Without the scheme of an `Authorization`, which may be left out when it is quoted.
            found += headers[name].split()
    if proxy is not None and (password := urlsplit(proxy).password):
        user = urlsplit(proxy).username or ""
        pair = f"{unquote(user)}:{unquote(password)}"
        found += [password, unquote(password), b64encode(pair.encode()).decode()]
    # Some quote a request as JSON inside of a text.
    found += [json.dumps(text)[1:-1] for text in found]
    return sorted({text for text in found if len(text) >= MIN_SECRET}, key=len, reverse=True)


def url_mistake(text: str, *, credentials: bool = False, query: bool = False) -> str:
    """What is wrong with an http(s) URL, "" if nothing. Never repeats any of it. `credentials`, `query`:
    whether it may have them."""
    if not re.fullmatch(r"[\x21-\x7e]+", text.encode("ascii", "replace").decode()) or "\\" in text:
        return "must be a URL without spaces"
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        return "must be a URL like http://host:8000/v1"
    if url.scheme not in _PORTS or not host:
        return "must be a URL that begins with http:// or https://"
    if (url.username is not None or url.password is not None) and not credentials:
        return "must not hold a user or password; use api_key (or for a proxy {env: NAME})"
    if ((url.query or text.endswith("?")) and not query) or url.fragment or text.endswith("#"):
        return "must not have a query or a fragment (?… or #…)"
    if port == 0:
        return "has a port that is not between 1 and 65535"
    try:
        ascii_host = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        ascii_host = ""
    if not _HOST.fullmatch(ascii_host):
        return "has a host name that cannot exist"
    if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", url.path):
        return "has characters in its path that must be percent-encoded"
    return ""
