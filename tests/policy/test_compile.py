# ruff: noqa: E501 (tables read best with a row on a line)
"""Policy → tables: names become indexes, patterns become lists, prices are bound, secrets stay where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import load_text, secret_reader
from gateway.policy.problem import PolicyError
from gateway.policy.snapshot import Snapshot
from gateway.pricing.catalogue import Catalogue
from gateway.usage import KINDS

HASH = "0a" * 32
BASE = """
providers:
  one: {base_url: http://one:8000/v1}
  two: {base_url: http://two:8000/v1}
models:
  fast: {targets: [one/a, two/b]}
  big: {targets: [two/c]}
  big-2: {targets: [one/a]}
"""


def warnings_of(compiled: Compiled) -> list[str]:
    return [f"{found.path}: {found.message}" for found in compiled.warnings]


def models_of_key(tables: dict[str, Any], name: str) -> list[str]:
    (key,) = (key for key in tables["keys"] if key["name"] == name)
    return [tables["models"][index]["name"] for index in key["models"]]


def test_targets_point_at_their_providers_and_share_rows(compile_text: Callable[..., Compiled]) -> None:
    tables = compile_text(BASE).tables
    fast, big, big_2 = tables["models"]
    assert [target["name"] for target in fast["targets"]] == ["one/a", "two/b"]
    assert [tables["providers"][target["provider"]]["name"] for target in fast["targets"]] == ["one", "two"]
    assert big_2["targets"][0]["row"] == fast["targets"][0]["row"] != big["targets"][0]["row"]


def test_defaults_are_those_of_the_design(compile_text: Callable[..., Compiled]) -> None:
    model = compile_text(BASE).tables["models"][0]
    assert model["timeouts"] == {"connect_s": 5.0, "first_token_s": 60.0, "stall_s": 120.0, "total_s": 600.0}
    assert model["retries"] == {"attempts": 2, "budget": 0.2, "uncertain": False}
    assert model["keep_alive_s"] == 15.0
    assert model["health"] == {"failures": 5, "eject_s": 30.0}
    assert model["strategy"] == "priority"
    assert set(model["fallback_on"]) == {
        "connect", "timeout", "first_token", "stall", "rate_limited", "server_error", "auth", "bad_answer",
    }  # fmt: skip


OPEN = BASE + (
    "pass_through:\n"
    "  images: {provider: one, usd_per_call: 0.0400000001, timeouts: {total: 5s}}\n"
    "  files: {provider: two}\n"
    "teams:\n"
    "  all: {models: ['*'], pass_through: [images, files]}\n"
    "  some: {models: [fast, whisper-1], pass_through: [files, audio]}\n"
    "keys:\n"
    f"  a: {{team: all, sha256: '{'1' * 64}', models: ['gpt-*'], pass_through: [files]}}\n"
    f"  b: {{team: some, sha256: '{'2' * 64}'}}\n"
)


def test_passages_and_who_may_use_them(compile_text: Callable[..., Compiled]) -> None:
    compiled = compile_text(OPEN)
    images, files = compiled.tables["pass_through"]
    assert (images["family"], images["provider"], images["nanousd_per_call"]) == ("images", 0, 40_000_001)
    assert images["timeouts"]["total_s"] == 5.0
    assert (files["provider"], files["nanousd_per_call"]) == (1, None)
    snapshot = Snapshot.from_tables(compiled.tables)
    first, second = snapshot.keys.values()
    assert first.families == {"files"}
    assert first.may_name("gpt-image-1")
    assert not first.may_name("dall-e-3")
    assert second.families == {"files", "audio"}
    assert second.may_name("whisper-1")
    assert not second.may_name("whisper-2")
    assert snapshot.passages["images"].target.name == "one/images"
    assert "teams.some.pass_through: audio goes nowhere: pass_through has no provider for it" in warnings_of(
        compiled
    )
    assert "teams.some.models[1]: there is no model 'whisper-1'" in warnings_of(compiled)


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        (
            "pass_through: {images: {provider: tow}}",
            "pass_through.images.provider",
            "there is no provider 'tow' (did you mean 'two'?)",
        ),
        ("pass_through: {pictures: {provider: two}}", "pass_through.pictures", "is no part of OpenAI's API"),
        (
            "pass_through: {images: {provider: two, usd_per_call: -1}}",
            "pass_through.images.usd_per_call",
            "must be",
        ),
        (
            "teams: {a: {models: ['*'], pass_through: [organization]}}",
            "teams.a.pass_through[0]",
            "is no part of OpenAI's API",
        ),
        ("teams: {a: {models: [whisper-1]}}", "teams.a.models[0]", "there is no model 'whisper-1'"),
    ],
)
def test_mistakes_about_passages_are_named(
    compile_text: Callable[..., Compiled], more: str, path: str, message: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        compile_text(BASE + more + "\n")
    (problem,) = caught.value.problems
    assert problem.path == path
    assert message in problem.message


def test_who_does_not_speak_openai_is_no_provider_of_passages(compile_text: Callable[..., Compiled]) -> None:
    claude = BASE.replace("providers:", "providers:\n  claude: {dialect: anthropic, api_key: {env: K}}")
    with pytest.raises(PolicyError, match="does not speak OpenAI's API") as caught:
        compile_text(claude + "pass_through: {files: {provider: claude}}\n", {"K": "k"})
    assert [problem.path for problem in caught.value.problems] == ["pass_through.files.provider"]


def test_dated_azure_is_no_provider_of_passages(compile_text: Callable[..., Compiled]) -> None:
    azure = BASE.replace(
        "providers:",
        "providers:\n  az: {dialect: azure, resource: r, api_version: 2024-10-21, api_key: {env: K}}",
    )
    with pytest.raises(PolicyError, match="dated API"):
        compile_text(azure + "pass_through: {files: {provider: az}}\n", {"K": "k"})


def test_key_may_use_what_its_team_and_itself_allow(compile_text: Callable[..., Compiled]) -> None:
    text = BASE + (
        "teams: {all: {models: ['*']}, some: {models: ['big*']}}\n"
        "keys:\n"
        f"  a: {{team: all, sha256: '{'1' * 64}'}}\n"
        f"  b: {{team: all, sha256: '{'2' * 64}', models: [fast, big]}}\n"
        f"  c: {{team: some, sha256: '{'3' * 64}', models: ['*2', fast]}}\n"
        f"  d: {{team: some, sha256: '{'4' * 64}', models: [fast]}}\n"
    )
    compiled = compile_text(text)
    assert models_of_key(compiled.tables, "a") == ["fast", "big", "big-2"]
    assert models_of_key(compiled.tables, "b") == ["fast", "big"]
    assert models_of_key(compiled.tables, "c") == ["big-2"]
    assert models_of_key(compiled.tables, "d") == []
    assert "keys.d: this key may use no model" in warnings_of(compiled)


def test_tables_make_a_snapshot_that_knows_the_key(compile_text: Callable[..., Compiled]) -> None:
    text = BASE + (
        "teams: {t: {models: [fast]}}\n"
        f"keys: {{k: {{team: t, sha256: '{'2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'}', expires: 2027-01-01}}}}\n"
        "routes: [{name: r, match: {team: t, stream: true}, use: big}]\n"
    )
    snapshot = Snapshot.from_tables(json.loads(json.dumps(compile_text(text).tables)))
    key = snapshot.key_of(b"hello")
    assert key is not None
    assert (key.name, key.team, list(key.models)) == ("k", "t", ["fast"])
    assert key.expires_s == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert [(route.name, route.use.name) for route in key.routes] == [("r", "big")]


def test_optional_provider_without_its_key_takes_its_targets_along(
    compile_text: Callable[..., Compiled],
) -> None:
    text = """
providers:
  openai: {optional: true}
  sim: {dialect: simulated}
models:
  both: {targets: [openai/gpt-4o-mini, sim/x]}
  lost: {targets: [openai/gpt-4o]}
teams: {t: {models: [both, lost, "l*"]}}
keys: {k: {team: t, sha256: HASH}}
routes: [{name: r, match: {}, use: lost}]
""".replace("HASH", HASH)
    without = compile_text(text)
    assert [provider["name"] for provider in without.tables["providers"]] == ["sim"]
    assert [[target["name"] for target in model["targets"]] for model in without.tables["models"]] == [
        ["sim/x"]
    ]
    assert models_of_key(without.tables, "k") == ["both"]
    assert without.tables["routes"] == []
    assert warnings_of(without) == [
        "providers.openai: left out, since it is optional and the environment variable OPENAI_API_KEY is not set",
        "models.lost: left out, since none of its targets has a provider that can be used",
        "routes[0]: left out, since the model 'lost' is",
    ]
    with_key = compile_text(text, {"OPENAI_API_KEY": "sk-1"})
    assert [model["name"] for model in with_key.tables["models"]] == ["both", "lost"]
    assert with_key.warnings == []


def test_key_of_a_caller_is_no_key_of_an_optional_provider(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {p: {base_url: 'http://h', optional: true, api_key: {env: A}}}\n"
    left_out = compile_text(text, {"A": "hg-pasted-from-the-banner"})
    assert (
        "providers.p: left out, since it is optional and A holds a key of a gateway's caller"
        in warnings_of(left_out)
    )
    assert left_out.tables["providers"] == []
    (behind,) = compile_text(text.replace("optional: true, ", ""), {"A": "hg-k"}).tables["providers"]
    assert behind["keys"][0]["secret"] == "hg-k"


def test_optional_provider_goes_on_with_the_keys_it_has(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {p: {base_url: 'http://h', optional: true, api_keys: [{env: A}, {env: B}]}}\n"
    compiled = compile_text(text, {"B": "sk-b"})
    (provider,) = compiled.tables["providers"]
    assert provider["keys"] == [{"name": "p#2", "secret": "sk-b", "row": 0}]
    assert (
        "providers.p.api_keys[0]: this key is left out: the environment variable A is not set"
        in warnings_of(compiled)
    )


def test_own_price_wins_over_the_published_one_and_the_longest_pattern_over_others(
    compile_text: Callable[..., Compiled],
) -> None:
    text = """
providers: {openai: {}}
models: {m: {targets: [openai/gpt-4o-mini, openai/gpt-4o, openai/gpt-4.1, openai/gpt-4.1-mini]}}
prices:
  openai/*: {input: 9, output: 9}
  openai/gpt-4o*: {input: 5, output: 5}
  openai/gpt-4o-mini: {input: 0.1, cached_input: 0.05, output: 0.4, reasoning: 0.5}
"""
    compiled = compile_text(text, {"OPENAI_API_KEY": "sk"})
    prices = [
        target["price"]["standard"][0][1]["input"] for target in compiled.tables["models"][0]["targets"]
    ]
    assert prices == [100_000, 5_000_000, 9_000_000, 9_000_000]
    first = compiled.tables["models"][0]["targets"][0]["price"]
    assert first == {
        "standard": [
            (0, dict(zip(KINDS, (100_000, 50_000, 100_000, 100_000, 400_000, 500_000, 400_000), strict=True)))
        ]
    }


def test_own_price_rounds_up_to_whole_pico_dollars(compile_text: Callable[..., Compiled]) -> None:
    text = BASE + "prices: {'one/*': {input: 0.0000001, output: 0.1500001}}\n"
    price = compile_text(text).tables["models"][0]["targets"][0]["price"]["standard"][0][1]
    assert (price["input"], price["output"]) == (1, 150_001)


def test_published_price_is_bound_and_an_unknown_one_is_none(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {openai: {}}\nmodels: {m: {targets: [openai/gpt-4o-mini, openai/no-such-model]}}\n"
    known, unknown = compile_text(text, {"OPENAI_API_KEY": "sk"}).tables["models"][0]["targets"]
    assert known["price"]["standard"][0][1]["input"] == 150_000
    assert unknown["price"] is None


def test_price_that_changes_with_the_hour_says_when(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {deepseek: {}}\nmodels: {m: {targets: [deepseek/deepseek-chat]}}\n"
    compiled = compile_text(text, {"DEEPSEEK_API_KEY": "sk"}, at=datetime(2026, 11, 20, 12, tzinfo=UTC))
    assert compiled.prices_change_at == datetime(2026, 11, 20, 16, 30, tzinfo=UTC)
    assert compile_text(BASE).prices_change_at is None


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("version: 1\n", "models: no model is defined"),
        ("version: 1\n", "keys: no key is defined"),
        (BASE + "teams: {t: {models: ['x*']}}\n", "teams.t.models[0]: 'x*' is the name of no model"),
        (BASE + "prices: {'one/zzz': {input: 1, output: 1}}\n", "prices.one/zzz: is the price of no target"),
        (BASE + "  w: {targets: [{provider: one, model: a, weight: 2}]}\n", "models.w.targets[0].weight: has an effect only"),
        (BASE + "  w: {targets: [one/a], timeouts: {stall: 60s, total: 30s}}\n", "models.w.timeouts.stall: is never reached"),
        (BASE + f"teams: {{t: {{models: [big]}}}}\nkeys: {{k: {{team: t, models: [fast, big], sha256: {HASH}}}}}\n", "keys.k.models: 'fast' is not a model of the team 't'"),
        (BASE + f"teams: {{t: {{models: [big]}}}}\nkeys: {{k: {{team: t, expires: 2020-01-01, sha256: {HASH}}}}}\n", "keys.k.expires: this key has expired"),
        ("providers: {p: {base_url: 'https://h', tls: {verify: false}}}\n", "providers.p.tls.verify: any certificate is accepted"),
    ],
)  # fmt: skip
def test_what_is_legal_but_odd_is_a_warning(
    compile_text: Callable[..., Compiled], text: str, warning: str
) -> None:
    assert any(found.startswith(warning) for found in warnings_of(compile_text(text)))


def test_match_becomes_lists(compile_text: Callable[..., Compiled]) -> None:
    text = BASE + (
        "  canary: {targets: [{provider: one, model: a, match: {tag: beta, model: 'c*', endpoint: [chat], stream: false,"
        " metadata: {tier: gold}}}, two/b]}\n"
    )
    assert compile_text(text).tables["models"][3]["targets"][0]["match"] == {
        "team": None,
        "key": None,
        "tag": ["beta"],
        "model": ["c*"],
        "endpoint": ["chat"],
        "stream": False,
        "metadata": {"tier": ["gold"]},
    }


def test_hash_names_the_meaning_not_the_spelling(compile_text: Callable[..., Compiled]) -> None:
    text = BASE + f"teams: {{t: {{models: [fast]}}}}\nkeys: {{k: {{team: t, sha256: {HASH}}}}}\n"
    spelled = text.replace(
        "fast: {targets: [one/a, two/b]}",
        "# two\n  fast:\n    targets:\n    - 'one/a'\n    - {provider: two, model: b}",
    )
    changed = text.replace("two/b", "two/bb")
    plain, other, third = (compile_text(policy).tables["hash"] for policy in (text, spelled, changed))
    assert len(plain) == 12
    assert plain == other != third


def test_hash_does_not_depend_on_secrets(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {openai: {}}\n"
    hashes = {compile_text(text, {"OPENAI_API_KEY": secret}).tables["hash"] for secret in ("sk-1", "sk-2")}
    assert len(hashes) == 1


def test_secrets_are_in_the_tables_and_nowhere_else(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {openai: {headers: {x: {env: OPENAI_API_KEY}}, proxy: {env: PROXY}}}\n"
    environ = {"OPENAI_API_KEY": "sk-topsecret", "PROXY": "http://u:topsecret@proxy:3128"}
    compiled = compile_text(text, environ)
    (provider,) = compiled.tables["providers"]
    assert provider["keys"][0]["secret"] == provider["headers"]["x"] == "sk-topsecret"
    assert provider["proxy"] == environ["PROXY"]
    elsewhere = [
        repr(compiled),
        str(compiled.warnings),
        json.dumps(compiled.document),
        repr(load_text(text, environ)),
    ]
    assert not any("topsecret" in shown for shown in elsewhere)


def test_admin_keys_do_not_go_to_the_workers(compile_text: Callable[..., Compiled]) -> None:
    compiled = compile_text(f"admin: {{keys: [{{sha256: {HASH}}}]}}\n")
    assert compiled.admin_keys == (HASH,)
    assert HASH not in json.dumps(compiled.tables)


def test_simulated_provider_needs_somebody_to_run_it(compile_text: Callable[..., Compiled]) -> None:
    table = compile_text("providers: {sim: {dialect: simulated}}\n").tables["providers"][0]
    assert (table["host"], table["port"], table["base_path"], table["auth"]) == (
        "127.0.0.1",
        9999,
        "/v1",
        "none",
    )
    elsewhere = compile_text("providers: {sim: {dialect: simulated, base_url: 'http://sim:1/v1'}}\n")
    assert elsewhere.tables["providers"][0]["host"] == "sim"


def test_simulated_provider_that_nobody_runs_is_a_mistake(catalogue: Catalogue) -> None:
    policy = load_text("providers: {sim: {dialect: simulated}}\n", {})
    with pytest.raises(PolicyError, match="base_url: is missing"):
        compile_policy(
            policy, secret_of=secret_reader({}), row_of=lambda _: 0, catalogue=catalogue, at=datetime.now(UTC)
        )


def test_mistakes_of_providers_and_models_come_together(compile_text: Callable[..., Compiled]) -> None:
    text = "providers: {p: {}}\nmodels: {m: {targets: [q/x]}}\nkeys: {k: {team: t, sha256: HASH}}\n"
    with pytest.raises(PolicyError) as caught:
        compile_text(text.replace("HASH", HASH))
    assert [problem.path for problem in caught.value.problems] == [
        "providers.p",
        "models.m.targets[0].provider",
        "keys.k.team",
    ]


def test_models_of_a_provider_that_may_be_named_directly(compile_text: Callable[..., Compiled]) -> None:
    text = (
        "version: 1\n"
        "providers:\n"
        "  one: {base_url: 'http://h/v1', direct: [small, meta-llama/big]}\n"
        "models:\n"
        "  one/small: {targets: [one/small], on_unsupported: drop}\n"
        "teams: {all: {models: ['*']}, some: {models: [one/small]}}\n"
        "keys:\n"
        f"  a: {{team: all, sha256: '{'1' * 64}'}}\n"
        f"  b: {{team: some, sha256: '{'2' * 64}'}}\n"
    )
    compiled = compile_text(text)
    assert models_of_key(compiled.tables, "a") == ["one/small", "one/meta-llama/big"]
    assert models_of_key(compiled.tables, "b") == ["one/small"]
    small, big = compiled.tables["models"]
    assert small["drops_unsupported"], "an entry under models is the operator's own"
    assert [target["model"] for target in big["targets"]] == ["meta-llama/big"]
