"""The provider table: a name and a key are enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.policy.compile import Compiled
from gateway.policy.providers import PRESETS

ENVIRON = {preset.key_env: "key-1" for preset in PRESETS.values() if preset.key_env}


def address(row: dict[str, Any]) -> str:
    return f"{row['scheme']}://{row['host']}:{row['port']}{row['base_path']}"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_known_provider_needs_its_name_only(compile_text: Callable[..., Compiled], name: str) -> None:
    preset = PRESETS[name]
    more = "resource: res" if name == "azure" else ""
    (row,) = compile_text(f"providers: {{{name}: {{{more}}}}}\n", ENVIRON).tables["providers"]
    assert row["auth"] == (preset.auth if preset.key_env else "none")
    assert len(row["keys"]) == (1 if preset.key_env else 0)
    assert row["otel_name"] == preset.otel_name
    assert row["base_path"] or name == "perplexity"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("azure: {resource: res}", "https://res.openai.azure.com:443/openai/v1"),
        ("eu: {dialect: azure, resource: res, api_version: 2024-10-21}", "https://res.openai.azure.com:443"),
        (
            "eu: {preset: azure, base_url: 'https://res.openai.azure.com/'}",
            "https://res.openai.azure.com:443/openai/v1",
        ),
        ("eu: {preset: azure, base_url: 'https://r.x/openai/v1/'}", "https://r.x:443/openai/v1"),
        ("eu: {preset: azure, base_url: 'https://apim.x/a/openai', api_version: v}", "https://apim.x:443/a"),
        ("local: {base_url: 'http://vllm:8000/v1/'}", "http://vllm:8000/v1"),
        ("local: {base_url: 'HTTP://VLLM/v1'}", "http://vllm:80/v1"),
        ("local: {base_url: 'http://[::1]:8000'}", "http://::1:8000"),
        ("local: {base_url: 'https://bücher.example/v1'}", "https://xn--bcher-kva.example:443/v1"),
        ("local: {base_url: 'http://my_service:80/v1'}", "http://my_service:80/v1"),
        ("second: {preset: groq}", "https://api.groq.com:443/openai/v1"),
        ("huggingface: {}", "https://router.huggingface.co:443/v1"),
        ("bloom: {preset: tgi, base_url: 'http://bloom:3000/v1'}", "http://bloom:3000/v1"),
    ],
)
def test_addresses(compile_text: Callable[..., Compiled], text: str, expected: str) -> None:
    (row,) = compile_text(f"providers: {{{text}}}\n", ENVIRON).tables["providers"]
    assert address(row) == expected


def test_key_of_a_known_provider_is_not_sent_elsewhere_unasked(compile_text: Callable[..., Compiled]) -> None:
    (row,) = compile_text("providers: {openai: {base_url: 'http://elsewhere/v1'}}\n", ENVIRON).tables[
        "providers"
    ]
    assert (row["keys"], row["auth"]) == ([], "none")
    text = "providers: {openai: {preset: openai, base_url: 'https://eu.api.openai.com/v1'}}\n"
    (asked,) = compile_text(text, ENVIRON).tables["providers"]
    assert asked["keys"][0]["secret"] == "key-1"


def test_several_keys_are_numbered(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {openai: {api_keys: [{env: A}, {env: B}]}}\n"
    (row,) = compile_text(text, {"A": "sk-a", "B": "sk-b"}).tables["providers"]
    assert [(key["name"], key["secret"]) for key in row["keys"]] == [
        ("openai#1", "sk-a"),
        ("openai#2", "sk-b"),
    ]


def test_settings_of_the_connection_are_passed_on(compile_text: Callable[..., Compiled]) -> None:
    text = """
providers:
  p:
    base_url: https://h/v1
    tls: {ca_file: /ca.pem, client_cert: /c.pem, client_key: /k.pem, verify: true}
    proxy: http://proxy:3128/
    headers: {X-Team: search}
    max_connections: 8
    idle: 5s
    stream_options: false
"""
    (row,) = compile_text(text).tables["providers"]
    assert (row["ca_file"], row["client_cert"], row["client_key"]) == ("/ca.pem", "/c.pem", "/k.pem")
    assert (row["proxy"], row["headers"]) == ("http://proxy:3128", {"X-Team": "search"})
    assert (row["max_connections"], row["idle_s"], row["verify"], row["stream_options"]) == (
        8,
        5.0,
        True,
        False,
    )


def test_secrets_are_what_comes_from_elsewhere_the_longest_first(
    compile_text: Callable[..., Compiled],
) -> None:
    text = """
providers:
  p:
    base_url: http://h/v1
    api_keys: [{env: LONG}, {env: SHORT}]
    headers: {X-Team: a-team-of-ours, X-Token: {env: TOKEN}, X-Flag: {env: SHORT}}
    proxy: {env: PROXY}
"""
    environ = {"LONG": "sk-0123456789", "SHORT": "ollama", "TOKEN": "Token t-0123456"}
    (row,) = compile_text(text, {**environ, "PROXY": "http://me:pass%2Fword@proxy:1"}).tables["providers"]
    assert row["secrets"][0] == "bWU6cGFzcy93b3Jk"
    assert set(row["secrets"]) == {
        "bWU6cGFzcy93b3Jk",
        "sk-0123456789",
        "t-0123456",
        "pass%2Fword",
        "pass/word",
    }


def test_providers_that_refuse_stream_options_are_known(compile_text: Callable[..., Compiled]) -> None:
    rows = compile_text("providers: {mistral: {}, openai: {}}\n", ENVIRON).tables["providers"]
    assert [row["stream_options"] for row in rows] == [False, True]


def test_unknown_provider_has_its_own_name_in_telemetry(compile_text: Callable[..., Compiled]) -> None:
    (row,) = compile_text("providers: {local: {base_url: 'http://h'}}\n").tables["providers"]
    assert row["otel_name"] == "local"


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ("openai: {auth: none}", "max_completion_tokens"),
        ("mistral: {auth: none}", "max_tokens"),
        ("own: {base_url: http://vllm/v1}", "max_tokens"),
        ("az: {dialect: azure, resource: r, auth: none}", "max_completion_tokens"),
        ("az: {dialect: azure, resource: r, auth: none, api_version: 2024-10-21}", "max_completion_tokens"),
        (
            "az: {dialect: azure, resource: r, auth: none, api_version: 2024-09-01-preview}",
            "max_completion_tokens",
        ),
        ("az: {dialect: azure, resource: r, auth: none, api_version: 2024-06-01}", "max_tokens"),
    ],
)
def test_field_that_caps_output_is_one_the_provider_heeds(
    compile_text: Callable[..., Compiled], provider: str, field: str
) -> None:
    (row,) = compile_text(f"providers: {{{provider}}}").tables["providers"]
    assert row["cap_field"] == field
