"""Folders of files: which are read, how they are merged and expanded; nothing but `PolicyError` is raised."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.compile import Compiled
from gateway.policy.load import from_document, load_folder, load_text, secret_reader
from gateway.policy.parts import SecretRef
from gateway.policy.problem import PolicyError, SecretError
from gateway.policy.spec import named_files


def problems_of(call: Callable[[], object]) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


def test_files_of_a_folder_are_merged(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(
        "teams:\n  b: {models: []}\nroutes: [{name: second, match: {}, use: m}]\n"
    )
    (tmp_path / "a.yaml").write_text(
        "version: 1\nteams:\n  a: {models: []}\nroutes: [{name: first, match: {}, use: m}]\n"
    )
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.yaml").write_text("teams: {c: {models: []}}\n")
    spec = load_folder(tmp_path, {}).spec
    assert sorted(spec.teams) == ["a", "b", "c"]
    assert [route.name for route in spec.routes] == ["first", "second"]


def test_what_is_no_policy_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teams: {a: {models: []}}\n")
    for name in ("schema.json", "notes.txt", ".hidden.yaml", "a.yaml~"):
        (tmp_path / name).write_text("not: [a policy\n")
    for name in ("tests", "probes", ".git"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text("not: [a policy\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert list(load_folder(tmp_path, {}).spec.teams) == ["a"]


def test_name_defined_in_two_files_names_both(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teams:\n  one: {models: []}\n")
    (tmp_path / "b.yaml").write_text("# a comment\nteams:\n\n  one: {models: []}\n")
    found = problems_of(lambda: load_folder(tmp_path, {}))
    assert found == [
        f"{tmp_path}/b.yaml:4:3: teams.one: 'one' is defined twice; first in {tmp_path}/a.yaml:2"
    ]


def test_section_of_two_forms_names_both(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teams: {one: {models: []}}\n")
    (tmp_path / "b.yaml").write_text("teams: [one]\n")
    assert problems_of(lambda: load_folder(tmp_path, {})) == [
        f"{tmp_path}/b.yaml:1:1: teams: must have the same form in all files; see {tmp_path}/a.yaml:1"
    ]


def test_every_file_may_give_the_version_and_all_must_be_1(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "b.yaml").write_text("version: 1\nadmin: {keys: []}\n")
    (tmp_path / "c.yaml").write_text("admin:\n  keys: []\n")
    assert load_folder(tmp_path, {}).spec.version == 1
    (tmp_path / "d.yaml").write_text("version: 2\n")
    assert problems_of(lambda: load_folder(tmp_path, {}))[0].startswith(f"{tmp_path}/d.yaml:1:10: version")


def test_mistakes_of_all_files_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teams: {a: {}}\n")
    (tmp_path / "b.yaml").write_text("teams: [\n")
    (tmp_path / "c.yaml").write_text("zzz: 1\n")
    (tmp_path / "d.yaml").symlink_to(tmp_path / "gone.yaml")
    found = problems_of(lambda: load_folder(tmp_path, {}))
    assert [Path(line.split(":")[0]).name for line in found] == ["a.yaml", "b.yaml", "c.yaml", "d.yaml"]
    assert "cannot be read: No such file" in found[3]


def test_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root nothing is unreadable, so the refusal is made up."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path == str(tmp_path / "closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = problems_of(lambda: load_folder(tmp_path, {}))
    assert found == [f"{tmp_path}/closed: the folder cannot be read: Permission denied"]


@pytest.mark.parametrize("make", ["missing", "file", "empty"])
def test_folder_that_holds_no_policy_is_an_error(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "policies"
    if make == "file":
        folder.write_text("")
    elif make == "empty":
        folder.mkdir()
    words = {"missing": "does not exist", "file": "is not a folder", "empty": "has no .yaml or .yml file"}
    assert problems_of(lambda: load_folder(folder, {})) == [f"{folder}: the policy folder {words[make]}"]


def test_empty_files_and_sections_say_nothing() -> None:
    assert load_text("", {}).spec == load_text("# nothing\n", {}).spec
    spec = load_text("teams:\nroutes:\nadmin:\nmodels: # later\n", {}).spec
    assert (spec.teams, spec.routes, spec.models) == ({}, [], {})


def test_config_map_mount_is_read_once_and_follows_its_swap(tmp_path: Path) -> None:
    """Kubernetes: every file is a link into ..data, which is a link to a folder of a version."""

    def version(name: str, team: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "teams.yaml").write_text(f"teams: {{{team}: {{models: []}}}}\n")

    version("..2026_11_24_1", "old")
    (tmp_path / "..data").symlink_to("..2026_11_24_1")
    (tmp_path / "teams.yaml").symlink_to("..data/teams.yaml")
    assert list(load_folder(tmp_path, {}).spec.teams) == ["old"]
    version("..2026_11_24_2", "new")
    (tmp_path / "..data_tmp").symlink_to("..2026_11_24_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    shutil.rmtree(tmp_path / "..2026_11_24_1")
    assert list(load_folder(tmp_path, {}).spec.teams) == ["new"]


def test_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("teams: {a: {models: []}}\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(load_folder(tmp_path, {}).spec.teams) == ["a"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${HOST}", "h"),
        ("http://${HOST}:${PORT:-80}/v1", "http://h:80/v1"),
        ("${NOT_SET:-}x", "x"),
        ("${EMPTY:-other}", "other"),
        ("a$$b", "a$b"),
        ("$${HOST}", "${HOST}"),
        ("${TRICK}", "${HOST}"),
        ("$5 and $", "$5 and $"),
        ("${HOST:-a b}", "h"),
    ],
)
def test_variables_are_expanded_once(text: str, expanded: str) -> None:
    environ = {"HOST": "h", "EMPTY": "", "TRICK": "${HOST}"}
    policy = load_text(f"providers: {{p: {{base_url: '{text}'}}}}\n", environ)
    assert policy.spec.providers["p"].base_url == expanded


def test_variables_cannot_change_the_structure() -> None:
    policy = load_text("teams: {a: {models: ['${EVIL}']}}\n", {"EVIL": "x]}, b: {models: ['*'"})
    assert policy.spec.teams["a"].models == ["x]}, b: {models: ['*'"]
    assert list(policy.spec.teams) == ["a"]


def test_variables_may_hold_numbers_and_durations() -> None:
    text = "providers:\n  p:\n    max_connections: ${N:-7}\n    idle: '${IDLE}'\n    optional: ${OPT:-true}\n"
    provider = load_text(text, {"IDLE": "2m"}).spec.providers["p"]
    assert (provider.max_connections, provider.idle, provider.optional) == (7, 120.0, True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5.0), ("10m", 600.0), ("1h", 3600.0), ("1.5s", 1.5), ("3", 3.0), ("0.25", 0.25)],
)
def test_durations(text: str, seconds: float) -> None:
    policy = load_text(f"models: {{m: {{targets: [a/b], timeouts: {{total: {text}}}}}}}\n", {})
    assert policy.spec.models["m"].timeouts.total == seconds


@pytest.mark.parametrize(("text", "seconds"), [("15s", 15.0), ("off", 0.0), ("2", 2.0)])
def test_intervals_may_be_off(text: str, seconds: float) -> None:
    policy = load_text(f"models: {{m: {{targets: [a/b], keep_alive: {text}}}}}\n", {})
    assert policy.spec.models["m"].keep_alive == seconds


@pytest.mark.parametrize(
    ("text", "share"), [("20%", 0.2), ("0.2", 0.2), ("12.5 %", 0.125), ("1", 1.0), ("0", 0.0)]
)
def test_shares(text: str, share: float) -> None:
    policy = load_text(f"models: {{m: {{targets: [a/b], retries: {{budget: {text}}}}}}}\n", {})
    assert policy.spec.models["m"].retries.budget == pytest.approx(share)


def test_words_of_yaml_1_1_and_long_digits_stay_text() -> None:
    digits = "1234567890" * 6 + "1e10"
    text = f"teams: {{on: {{models: [off, yes, no, y]}}}}\nkeys: {{no: {{team: on, sha256: {digits}}}}}\n"
    spec = load_text(text, {}).spec
    assert spec.teams["on"].models == ["off", "yes", "no", "y"]
    assert spec.keys["no"].sha256 == digits


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:30:00", datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
        ("'2027-01-31T12:30:00+01:00'", datetime(2027, 1, 31, 11, 30, tzinfo=UTC)),
        ("2027-01-31 12:30:00Z", datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
    ],
)
def test_expiry_without_a_zone_is_utc(text: str, moment: datetime) -> None:
    policy = load_text(f"keys: {{k: {{team: t, sha256: {'0a' * 32}, expires: {text}}}}}\n", {})
    assert policy.spec.keys["k"].expires == moment


def test_single_words_stand_for_lists_in_matches() -> None:
    text = (
        "routes: [{name: r, use: m, match: {team: a, endpoint: chat, metadata: {tier: [gold, 3], n: x}}}]\n"
    )
    match = load_text(text, {}).spec.routes[0].match
    assert (match.team, match.endpoint, match.metadata) == (
        ["a"],
        ["chat"],
        {"tier": ["gold", "3"], "n": ["x"]},
    )


def test_document_loads_to_the_same_policy_and_holds_no_expanded_value(
    compile_text: Callable[..., Compiled],
) -> None:
    environ = {"KEY": "sk-very-secret", "URL": "http://internal:8000/v1"}
    text = (
        "providers: {p: {base_url: '${URL}', api_key: {env: KEY}, headers: {x: {env: KEY}}}}\n"
        "models: {m: {targets: [p/x, {provider: p, model: y, weight: '${W:-3}'}], strategy: weighted}}\n"
        f"teams: {{t: {{models: [m]}}}}\nkeys: {{k: {{team: t, sha256: {'0a' * 32}, expires: 2027-01-31}}}}\n"
    )
    document = compile_text(text, environ).document
    kept = json.dumps(document)
    assert "sk-very-secret" not in kept
    assert "internal" not in kept
    assert from_document(json.loads(kept), environ).spec == load_text(text, environ).spec


def test_mistakes_of_a_document_have_a_path_but_no_place() -> None:
    found = problems_of(lambda: from_document({"teams": {"a": {}}}, {}))
    assert found == ["teams.a.models: is missing"]


def test_secrets_are_read_from_variables_and_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    read = secret_reader({"KEY": "sk-2"})
    assert read(SecretRef(file=str(tmp_path / "key"))) == "sk-1"
    assert read(SecretRef(env="KEY")) == "sk-2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xc3\xa9", "plain ASCII"),
        (None, "cannot be read: No such file"),
    ],
)
def test_secret_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretError, match=message) as caught:
        secret_reader({})(SecretRef(file=str(path)))
    assert str(path) in str(caught.value)


WORDS = st.sampled_from(
    [
        "providers",
        "models",
        "teams",
        "keys",
        "prices",
        "routes",
        "version",
        "targets",
        "api_key",
        "env",
        "match",
        "admin",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)
YAMLISH = st.lists(
    WORDS
    | st.sampled_from(
        [": ", "\n", "  ", "- ", "{", "}", "[", "]", ",", "&a", "*a", "!!x ", "'", '"', "#", "|", "? "]
    ),
    max_size=40,
).map("".join)


@given(
    st.binary(max_size=200)
    | YAMLISH.map(str.encode)
    | st.dictionaries(WORDS, TREES).map(lambda tree: json.dumps(tree).encode())
)
@settings(max_examples=400, deadline=None)
def test_loading_raises_nothing_but_policy_errors(data: bytes) -> None:
    with suppress(PolicyError):
        load_text(data, {})


@given(st.dictionaries(WORDS, TREES))
@settings(max_examples=200, deadline=None)
def test_documents_raise_nothing_but_policy_errors(tree: dict[str, object]) -> None:
    with suppress(PolicyError):
        from_document(tree, {})


@pytest.mark.parametrize("section", ["limits", "budgets"])
def test_limits_and_budgets_of_all_files_come_together(tmp_path: Path, section: str) -> None:
    some = {"limits": "requests: 1/s", "budgets": "usd: 1, every: day"}[section]
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(f"{section}:\n  - {{name: {name}, {some}}}\n")
    (tmp_path / "c.yaml").write_text(f"{section}:\n  # none here\n")
    found = getattr(load_folder(tmp_path, {}).spec, section)
    assert [rule.name for rule in found] == ["a", "b"]


def test_files_of_the_store_and_alerts_are_among_those_a_policy_names() -> None:
    text = "store: {redis: {file: /r}}\nalerts: {webhook: {file: /w}, secret: {file: /s}}\n"
    assert named_files(load_text(text, {}).spec) == {"/r", "/w", "/s"}
    assert named_files(load_text("store: {redis: 'redis://h'}\n", {}).spec) == frozenset()
