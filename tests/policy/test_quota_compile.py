# ruff: noqa: E501 (tables read best with a row on a line)
"""Limits and budgets → rules: what each counts, for whom, how much; and what a policy is warned of."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.policy.compile import compile_policy
from gateway.policy.load import from_document, load_text
from gateway.policy.problem import PolicyError
from gateway.policy.snapshot import Key, Snapshot
from gateway.pricing.catalogue import Catalogue
from gateway.quota.ratio import START
from gateway.usage import Usage
from tests.policy.conftest import CompileText

BASE = f"""
providers:
  one: {{base_url: http://one:8000/v1}}
  gone: {{optional: true, base_url: http://gone, api_key: {{env: NOT_SET}}}}
models:
  fast: {{targets: [one/a, one/b]}}
  big: {{targets: [one/c]}}
  lost: {{targets: [gone/x]}}
teams:
  search: {{models: ['*'], pass_through: [images, audio]}}
  ads: {{models: [big]}}
keys:
  app: {{team: search, sha256: '{"1" * 64}'}}
  batch: {{team: search, sha256: '{"2" * 64}'}}
  web: {{team: ads, sha256: '{"3" * 64}'}}
prices:
  one/a: {{input: 1, output: 2, per_call: 0.01, per_search: 0.0000000001}}
  one/c: {{input: 1, output: 2}}
pass_through:
  images: {{provider: one, usd_per_call: 0.04}}
  audio: {{provider: one}}
"""
ENVIRON = {
    "REDIS_URL": "rediss://user:pass-w0rd@h:6380/0",
    "HOOK": "https://hooks/x?token=t0ken-abc",
    "SIGN": "s1gn-ature",
}


@pytest.fixture(scope="module")
def rules_of(compile_text: CompileText) -> Any:
    """`rules_of(more)`: the compiled rules by name."""

    def rules(more: str) -> dict[str, dict[str, Any]]:
        found = compile_text(BASE + more, ENVIRON).tables["rules"]
        assert len({rule["name"] for rule in found}) == len(found)
        return {rule["name"]: rule for rule in found}

    return rules


def warnings_of(compile_text: CompileText, more: str) -> list[str]:
    """What a policy is warned of beyond what `BASE` is."""
    base, found = compile_text(BASE).warnings, compile_text(BASE + more).warnings
    return [f"{warning.path}: {warning.message}" for warning in found if warning not in base]


def key_named(snapshot: Snapshot, name: str) -> Key:
    (key,) = (key for key in snapshot.keys.values() if key.name == name)
    return key


def test_limit_is_a_rule_for_each_thing_it_counts(rules_of: Any) -> None:
    rules = rules_of(
        "limits: [{name: r, requests: 600/min, tokens: 200k/min, output_tokens: 1.5m/day, concurrent: 50, strict: true}]"
    )
    rows = [
        (r["name"], r["measure"], r["kind"], r["limit"], r["burst"], r["window_ms"]) for r in rules.values()
    ]
    assert rows == [
        ("r.requests", "requests", "rate", 600, 60, 60_000),
        ("r.tokens", "tokens", "rate", 200_000, 200_000, 60_000),
        ("r.output_tokens", "output_tokens", "rate", 1_500_000, 150_000, 86_400_000),
        ("r.concurrent", "concurrent", "slots", 50, 50, 0),
    ]
    assert {(r["policy_name"], r["strict"], r["store_down"], r["mode"]) for r in rules.values()} == {
        ("r", True, "share", "enforce")
    }


@pytest.mark.parametrize(
    ("given", "limit", "window_ms", "burst"),
    [
        ("requests: 5/s", 5, 1_000, 1),
        ("requests: 1/day", 1, 86_400_000, 1),
        ("requests: 100/10s", 100, 10_000, 10),
        ("requests: 600/min, burst: 7", 600, 60_000, 7),
        ("requests: 600/min, burst: {requests: 7}", 600, 60_000, 7),
        ("tokens: 10k/s", 10_000, 1_000, 600_000),
        ("tokens: 1m/h", 1_000_000, 3_600_000, 100_000),
        ("tokens: 1m/min, burst: 2k", 1_000_000, 60_000, 2_000),
        ("input_tokens: 9000000m/min", 9_000_000_000_000, 60_000, 9_000_000_000_000),
        ("requests: 1/31day", 1, 2_678_400_000, 1),
    ],
)
def test_rates_and_their_bursts(rules_of: Any, given: str, limit: int, window_ms: int, burst: int) -> None:
    (rule,) = rules_of(f"limits: [{{name: r, {given}}}]").values()
    assert (rule["limit"], rule["window_ms"], rule["burst"]) == (limit, window_ms, burst)


def test_budget_is_a_rule_in_nano_dollars(rules_of: Any) -> None:
    rules = rules_of(
        "budgets:\n"
        "- {name: m, usd: 0.123456789, every: month, timezone: Europe/Berlin, when_spent: {use: big}, match: {model: fast},\n"
        "   alert_at: [80%, 0.5, 80%], unpriced: allow, unbounded: refuse, default_output_tokens: 100, class: estimate}\n"
        "- {name: r, usd: 9000000, rolling: 30d, mode: shadow, when_store_down: open}\n"
    )
    month, rolling = rules["m"], rules["r"]
    assert (month["kind"], month["measure"], month["limit"], month["window_ms"]) == (
        "money",
        "usd",
        123_456_789,
        0,
    )
    assert (month["every"], month["timezone"], month["use"], month["alert_at"]) == (
        "month",
        "Europe/Berlin",
        1,
        [0.5, 0.8],
    )
    assert (month["strict"], month["unpriced"], month["unbounded"], month["default_output_tokens"]) == (
        False,
        "allow",
        "refuse",
        100,
    )
    assert (month["store_down"], month["mode"], month["attempts"]) == ("closed", "enforce", False)
    assert (rolling["kind"], rolling["limit"], rolling["window_ms"], rolling["every"]) == (
        "rolling",
        9 * 10**15,
        2_592_000_000,
        "",
    )
    assert rolling["limit"] < 2**53
    assert (rolling["strict"], rolling["store_down"], rolling["mode"], rolling["use"]) == (
        True,
        "open",
        "shadow",
        None,
    )


def test_order_in_per_does_not_change_a_buckets_name(rules_of: Any) -> None:
    rules = rules_of(
        "limits: [{name: a, requests: 1/s, per: [user, team, key]}, {name: b, requests: 1/s, per: all}, {name: c, requests: 1/s, per: model}]"
    )
    assert [rule["per"] for rule in rules.values()] == [["key", "team", "user"], [], ["model"]]


def test_rules_that_look_at_the_target_count_attempts(rules_of: Any) -> None:
    rules = rules_of(
        "limits: [{name: a, requests: 1/s, per: target}, {name: b, requests: 1/s, match: {target: one/*}}, {name: c, requests: 1/s, per: model}]"
    )
    assert [rule["attempts"] for rule in rules.values()] == [True, True, False]


def test_targets_own_limits_are_rules_of_that_target_alone(compile_text: CompileText) -> None:
    text = BASE.replace(
        "[one/c]",
        "[{provider: one, model: 'x|[*]#%', limits: {requests: 500/min, concurrent: 2, burst: 3}, context: 128000, max_output: 4096, reasoning: false}, gone/y]",
    )
    compiled = compile_text(text.replace("[gone/x]", "[{provider: gone, model: x, limits: {concurrent: 1}}]"))
    snapshot = Snapshot.from_tables(json.loads(json.dumps(compiled.tables)))
    requests, concurrent = snapshot.rules
    assert (requests.name, requests.burst) == ("target.one/x%7C[*]%23%25.requests", 3)
    assert (concurrent.name, concurrent.policy_name, concurrent.limit) == (
        "target.one/x%7C[*]%23%25.concurrent",
        "one/x|[*]#%",
        2,
    )
    assert requests.attempts and requests.is_static and requests.per == ("target",)
    facts: Any = None
    assert requests.match is not None
    assert requests.match.misses(facts, "big", "one/x|[*]#%") == ""
    assert requests.match.misses(facts, "big", "one/x|*#%") == "target"
    target = snapshot.models["big"].targets[0]
    assert (target.context, target.max_output, target.reasoning) == (128_000, 4096, False)


def test_limits_of_one_target_are_said_once(compile_text: CompileText) -> None:
    here = "{provider: one, model: c, limits: {requests: 5/s}}"
    same = BASE.replace("[one/c]", f"[{here}]").replace("one/b]", f"{here}]")
    assert [rule["name"] for rule in compile_text(same).tables["rules"]] == ["target.one/c.requests"]
    with pytest.raises(
        PolicyError, match=r"differs from models\.fast\.targets\[1\]\.limits, which is of the same target"
    ):
        compile_text(same.replace("5/s", "6/s", 1))


def test_prices_may_have_fees(compile_text: CompileText) -> None:
    models = Snapshot.from_tables(compile_text(BASE).tables).models
    with_fees, without = (models[name].targets[0].price for name in ("fast", "big"))
    assert with_fees is not None and without is not None
    assert with_fees.cost_nanousd(Usage(searches=2)) == 10_000_000 + 2 * 1
    assert without.cost_nanousd(Usage(searches=2)) == 0


def test_key_has_the_rules_that_may_count_it(compile_text: CompileText) -> None:
    more = (
        "limits:\n"
        "- {name: everyone, requests: 1/s}\n"
        "- {name: ads, requests: 1/s, match: {team: ads}}\n"
        "- {name: app, requests: 1/s, match: {key: app}}\n"
        "- {name: nobody, requests: 1/s, match: {team: ads, key: app}}\n"
        "budgets: [{name: money, usd: 1, every: day, when_spent: {use: big}, match: {team: search, model: fast}}]\n"
    )
    snapshot = Snapshot.from_tables(json.loads(json.dumps(compile_text(BASE + more).tables)))
    names = {key.name: [rule.name for rule in key.rules] for key in snapshot.keys.values()}
    assert names == {
        "app": ["everyone.requests", "app.requests", "money"],
        "batch": ["everyone.requests", "money"],
        "web": ["everyone.requests", "ads.requests"],
    }
    assert [rule.index for rule in snapshot.rules] == [0, 1, 2, 3, 4]
    assert snapshot.rules[4].use is snapshot.models["big"]
    assert all(rule is snapshot.rules[rule.index] for key in snapshot.keys.values() for rule in key.rules)


def test_tables_from_before_there_were_rules_are_read(compile_text: CompileText) -> None:
    tables = compile_text(BASE).tables
    for name in ("rules", "store", "alerts"):
        del tables[name]
    for model in tables["models"]:
        for target in model["targets"]:
            for name in ("context", "max_output", "reasoning"):
                del target[name]
    snapshot = Snapshot.from_tables(tables)
    assert (snapshot.rules, snapshot.stamp, key_named(snapshot, "app").rules) == ((), 0, ())
    assert snapshot.models["fast"].targets[0].context is None


def test_stamp_is_that_of_the_tables(compile_text: CompileText) -> None:
    assert Snapshot.from_tables({**compile_text(BASE).tables, "stamp": 7}).stamp == 7


STORE = "store: {redis: {env: REDIS_URL}, accept_lossy_store: true}\nalerts: {webhook: {env: HOOK}, secret: {env: SIGN}}\nbudgets: [{name: b, usd: 1, every: day, alert_at: 50%, unpriced: allow}]\n"


def test_store_and_alerts_have_their_secrets_in_the_tables_alone(compile_text: CompileText) -> None:
    compiled = compile_text(BASE + STORE, ENVIRON)
    assert compiled.tables["store"] == {"redis": ENVIRON["REDIS_URL"], "accept_lossy": True}
    assert compiled.tables["alerts"] == {"webhook": ENVIRON["HOOK"], "secret": ENVIRON["SIGN"]}
    kept = json.dumps(compiled.document)
    assert not any(secret in kept + repr(compiled) for secret in ENVIRON.values())
    other = compile_text(BASE + STORE, {**ENVIRON, "REDIS_URL": "redis://other"})
    assert other.tables["hash"] == compiled.tables["hash"]
    assert other.tables["store"] != compiled.tables["store"]


def test_without_them_the_store_is_the_embedded_one_and_nobody_is_told(compile_text: CompileText) -> None:
    tables = compile_text(BASE).tables
    assert (tables["rules"], tables["store"], tables["alerts"]) == (
        [],
        {"redis": None, "accept_lossy": False},
        None,
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0?ssl=1",
        "rediss://[::1]:1",
        "unix:///run/redis.sock",
        "redis+sentinel://a:1,b:2/main/0",
        "redis+cluster://a",
    ],
)
def test_forms_of_redis_urls(compile_text: CompileText, url: str) -> None:
    assert compile_text(BASE + f"store: {{redis: '{url}'}}\n").tables["store"]["redis"] == url


def test_accepted_policy_is_compiled_again_from_its_document(compile_text: CompileText) -> None:
    document = compile_text(BASE + STORE, ENVIRON).document
    assert from_document(document, ENVIRON).spec == load_text(BASE + STORE, ENVIRON).spec


def test_spelling_does_not_change_the_hash(compile_text: CompileText) -> None:
    one = "limits: [{name: a, tokens: 200k/min, burst: 1m, per: [key]}]\nbudgets: [{name: b, usd: 500, every: day}]\n"
    two = "budgets: [{name: b, usd: 500.00, every: day, when_spent: reject}]\nlimits: [{name: a, per: key, tokens: 200000/1min, burst: {tokens: 1000000}}]\n"
    hashes = {compile_text(BASE + text).tables["hash"] for text in (one, two, one.replace("500", "501"))}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ("limits: [{name: a, requests: 1/s, match: {team: ads, key: app}}]", "limits[0].match: is for no key"),
        ("limits: [{name: a, requests: 1/s, match: {model: fats}}]", "limits[0].match.model[0]: 'fats' is the name of no model (did you mean 'fast'?)"),
        ("limits: [{name: a, requests: 1/s, match: {target: [one/*, two/*]}}]", "limits[0].match.target[1]: 'two/*' is the name of no target"),
        ("limits: [{name: a, requests: 1/s, strict: true}]", "limits[0].strict: has an effect only on tokens"),
        ("budgets: [{name: b, usd: 1, rolling: 1d, timezone: UTC, match: {model: big}}]", "budgets[0].timezone: has an effect only with every"),
        ("budgets: [{name: b, usd: 1, every: day, alert_at: 50%, match: {model: big}}]", "budgets[0].alert_at: tells nobody, since there is no alerts.webhook"),
        ("budgets: [{name: b, usd: 1, every: day, when_spent: {use: big}, unpriced: allow}]", "budgets[0].when_spent.use: has no effect, since 'big' counts towards this budget too; see match.model"),
        ("budgets: [{name: b, usd: 1, every: day, when_spent: {use: lost}, unpriced: allow}]", "budgets[0].when_spent.use: has no effect, since the model 'lost' is left out"),
        ("budgets: [{name: b, usd: 1, every: day}]", "budgets[0].unpriced: calls to one/audio, one/b are refused under this budget, since they have no price; give them one, or say unpriced: allow"),
        ("budgets: [{name: b, usd: 1, every: day, match: {target: '*/b'}}]", "budgets[0].unpriced: calls to one/b are refused under this budget, since they have no price; give them one, or say unpriced: allow"),
        ("store: {accept_lossy_store: true}", "store.accept_lossy_store: has an effect only with redis"),
        ("drift: {enabled: false}\nalerts: {webhook: 'https://h/x'}", "alerts: is never used: no budget has alert_at, and drift is not watched"),
    ],
)  # fmt: skip
def test_what_has_no_effect_or_closes_something_is_warned_of(
    compile_text: CompileText, more: str, warning: str
) -> None:
    assert warnings_of(compile_text, more) == [warning]


@pytest.mark.parametrize(
    "more",
    [
        "limits: [{name: a, concurrent: 0}, {name: b, requests: 1/s, per: user}]",
        "limits: [{name: a, requests: 1/s, match: {model: [images, 'f*'], target: one/images}}]",
        "budgets: [{name: b, usd: 1, every: day, match: {team: ads}}]",
        "budgets: [{name: b, usd: 1, every: day, mode: shadow}]",
        "budgets: [{name: b, usd: 1, every: day, per: model, when_spent: {use: big}, match: {model: [big, images]}}]",
    ],
)
def test_what_is_meant_is_not_warned_of(compile_text: CompileText, more: str) -> None:
    assert warnings_of(compile_text, more) == []


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        ("", []),
        ("limits: [{name: calls, requests: 1/s}]", []),
        ("limits: [{name: out, output_tokens: 1k/s}]", []),
        ("limits: [{name: all, tokens: 1k/s, strict: true}]", []),
        ("limits: [{name: all, tokens: 1k/s}]", ["a", "b", "c", "x"]),
        ("budgets: [{name: money, usd: 1, every: day}]", []),
        ("budgets: [{name: money, usd: 1, every: day, class: estimate}]", ["a", "b", "c", "x"]),
    ],
)
def test_vocabularies_are_asked_only_where_tokens_are_estimated(rules: str, asked: list[str]) -> None:
    names: list[str] = []

    def ratio_of(model: str) -> float:
        names.append(model)
        return 3.5

    compiled = compile_policy(
        load_text(BASE + rules),
        secret_of=lambda _: "secret-of-nobody",
        row_of=lambda _: 0,
        catalogue=Catalogue(),
        at=datetime(2026, 11, 25, tzinfo=UTC),
        ratio_of=ratio_of,
    )
    assert names == asked
    target = Snapshot.from_tables(compiled.tables).models["fast"].targets[0]
    assert target.bytes_per_token == (3.5 if asked else START)


def test_facts_of_models_are_published_or_by_name_unless_the_policy_says_them(
    compile_text: CompileText,
) -> None:
    text = """
providers: {openai: {base_url: http://one, preset: openai, auth: none}, ollama: {}}
models:
  m:
    targets:
    - openai/gpt-5
    - openai/gpt-4o
    - {provider: openai, model: o3, context: 7, reasoning: false}
    - ollama/qwq-32b
"""
    targets = Snapshot.from_tables(compile_text(text).tables).models["m"].targets
    assert [(target.context, target.reasoning) for target in targets] == [
        (400_000, True), (128_000, False), (7, False), (None, True),
    ]  # fmt: skip
    assert targets[0].provider.cap_field == "max_completion_tokens"
    assert targets[3].provider.cap_field == "max_tokens"
