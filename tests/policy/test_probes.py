"""Golden prompts in policies: where their files are, what may stand in them, who is asked, the cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.drift.compare import Comparing
from gateway.drift.golden import Golden
from gateway.drift.schema import fits
from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import from_document, load_folder, policy_files, secret_reader
from gateway.policy.probe_compile import most_of, prompt_table
from gateway.policy.problem import PolicyError
from gateway.policy.schema import schema_text
from gateway.pricing.catalogue import Catalogue

POLICIES = Path(__file__).parents[2] / "policies"
MODELS = """
providers: {up: {base_url: "http://127.0.0.1:1/v1"}}
models:
  small: {targets: [up/small, up/big]}
  big: {targets: [up/big]}
  embed: {targets: [up/embed]}
  thinker: {targets: [up/o3-mini]}
prices:
  up/small: {input: 0.15, output: 0.60}
  up/big: {input: 2.5, output: 10}
  up/embed: {input: 0.02, output: 0}
"""
PROMPTS = """prompts:
  capital: {ask: "What is the capital of Peru?", exact: Lima}
  sum: {ask: "What is 1 + 1?", numeric: 2}
  why: {ask: "Why?", system: "Be brief."}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def write(probes: str, prompts: str = PROMPTS) -> Path:
        (tmp_path / "probes").mkdir(exist_ok=True)
        (tmp_path / "probes" / "own.yaml").write_text(prompts)
        (tmp_path / "policy.yaml").write_text(f"{MODELS}drift:\n  probes:\n    {probes}\n")
        return tmp_path

    return write


@pytest.fixture
def compiled(folder: Callable[..., Path], catalogue: Catalogue) -> Callable[..., Compiled]:
    def compile_it(probes: str, prompts: str = PROMPTS) -> Compiled:
        return compile_folder(folder(probes, prompts), catalogue)

    return compile_it


def compile_folder(folder: Path, catalogue: Catalogue) -> Compiled:
    return compile_policy(
        load_folder(folder, {}),
        secret_of=secret_reader({}),
        row_of=lambda _: 0,
        catalogue=catalogue,
        at=datetime(2026, 11, 20, tzinfo=UTC),
    )


def asked(compiled: Compiled) -> list[tuple[str, str]]:
    (suite,) = compiled.probes["suites"]
    return [(subject["model"], subject["target"]["name"]) for subject in suite["subjects"]]


def test_every_target_that_chats_is_asked_once(compiled: Callable[..., Compiled]) -> None:
    found = compiled("suites: [{name: own, prompts: probes/own.yaml}]")
    assert asked(found) == [("small", "up/small"), ("small", "up/big"), ("thinker", "up/o3-mini")]
    (suite,) = found.probes["suites"]
    assert [prompt["id"] for prompt in suite["prompts"]] == ["capital", "sum", "why"]
    assert [prompt["comparator"] for prompt in suite["prompts"]] == ["exact", "numeric", "similar"]
    assert suite["shards"] == 3, "no more parts than prompts"


def test_only_targets_of_named_models_are_asked(compiled: Callable[..., Compiled]) -> None:
    found = compiled("suites: [{name: own, prompts: probes/own.yaml, targets: [big]}]")
    assert asked(found) == [("big", "up/big")]


def test_models_that_reason_have_room_for_it(compiled: Callable[..., Compiled]) -> None:
    (suite,) = compiled("suites: [{name: own, prompts: probes/own.yaml}]").probes["suites"]
    assert [subject["cap"] for subject in suite["subjects"]] == [128, 128, 4096]


def test_prompts_stay_out_of_what_workers_get(compiled: Callable[..., Compiled]) -> None:
    assert "capital of Peru" not in json.dumps(
        compiled("suites: [{name: own, prompts: probes/own.yaml}]").tables
    )


def test_accepted_policy_holds_its_prompts(folder: Callable[..., Path], catalogue: Catalogue) -> None:
    path = folder("suites: [{name: own, prompts: probes/own.yaml}]")
    found = compile_folder(path, catalogue)
    again = compile_policy(
        from_document(json.loads(json.dumps(found.document)), {}),
        secret_of=secret_reader({}),
        row_of=lambda _: 0,
        catalogue=catalogue,
        at=datetime(2026, 11, 20, tzinfo=UTC),
    )
    assert again.probes == found.probes and again.tables["hash"] == found.tables["hash"]


def test_file_of_prompts_is_watched_and_part_of_the_hash(
    folder: Callable[..., Path], catalogue: Catalogue
) -> None:
    path = folder("suites: [{name: own, prompts: probes/own.yaml}]")
    assert path / "probes" / "own.yaml" in policy_files(path)
    before = compile_folder(path, catalogue).tables["hash"]
    (path / "probes" / "own.yaml").write_text(PROMPTS.replace("Peru", "Chile"))
    assert compile_folder(path, catalogue).tables["hash"] != before


SUITE = "suites: [{name: own, prompts: probes/own.yaml}]"
MISTAKES = [
    ("two comparators", "  a: {ask: b, exact: c, numeric: 1}", "own.yaml:2:3", "exact and numeric exclude"),
    ("no question", "  a: {exact: c}", "own.yaml:2:3", "ask: is missing"),
    ("unknown comparator", "  a: {ask: b, exakt: c}", "own.yaml:2:15", "unknown key"),
    ("bad pattern", "  a: {ask: b, regex: '('}", "own.yaml:2:22", "no regular expression"),
    ("number as a text", "  a: {ask: b, numeric: c}", "own.yaml:2:24", "must be a valid number"),
    ("tolerance of a text", "  a: {ask: b, exact: c, tolerance: 1}", "own.yaml:2:3", "for numeric only"),
    ("bad name", "  a b: {ask: c}", "own.yaml:2:3", "a name is 1 to 64"),
    ("name twice", "  a: {ask: b}\n  a: {ask: c}", "own.yaml:3:3", "given twice; first on line 2"),
    ("nothing expected", "  a: {ask: b, exact: }", "own.yaml:2:3", "exact is empty"),
]


@pytest.mark.parametrize(("name", "line", "place", "message"), MISTAKES)
def test_mistake_in_a_prompt_is_named_with_its_place(
    folder: Callable[..., Path], name: str, line: str, place: str, message: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load_folder(folder(SUITE, f"prompts:\n{line}\n"), {})
    (problem,) = caught.value.problems
    assert place in str(problem) and message in str(problem)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("prompts: [a]\n", "mapping of names to prompts"),
        ("a: 1\n", "unknown key; prompts stand under 'prompts'"),
        ("", None),
        ("prompts: {a: {ask: b}\n", "not valid YAML"),
    ],
)
def test_file_that_holds_no_prompts_is_named(
    folder: Callable[..., Path], prompts: str, message: str | None
) -> None:
    with pytest.raises(PolicyError) as caught:
        load_folder(folder(SUITE, prompts), {})
    said = str(caught.value)
    assert "own.yaml" in said and (message or "holds no prompts") in said


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        ("[{name: own, prompts: probes/none.yaml}]", "there is no file"),
        ("[{name: own, prompts: ../own.yaml}]", "in the folder probes/"),
        ("[{name: own, prompts: /etc/passwd}]", "in the folder probes/"),
        ("[{name: own, prompts: probes/../policy.yaml}]", "in the folder probes/"),
        ("[{name: own, prompts: probes/own.yaml, targets: [smal]}]", "did you mean 'small'?"),
        ("[{name: own, prompts: probes/own.yaml, every: 100ms}]", '"1s" at least'),
        ("[{name: a, prompts: probes/own.yaml}, {name: a, prompts: probes/own.yaml}]", "two suites called"),
    ],
)
def test_mistake_in_a_suite_is_named(compiled: Callable[..., Compiled], suites: str, message: str) -> None:
    with pytest.raises(PolicyError, match=r"policy\.yaml:\d+:\d+") as caught:
        compiled(f"suites: {suites}")
    assert message in str(caught.value)


def warnings(compiled: Compiled) -> list[str]:
    return [problem.message for problem in compiled.warnings if problem.path == "drift.probes.budget"]


def test_what_may_not_fit_into_a_day_is_a_warning(compiled: Callable[..., Compiled]) -> None:
    suite = "name: own, prompts: probes/own.yaml, targets: [big]"
    # 3 prompts in 3 parts: 24 questions a day, each at most 0.17 cents and 240 tokens.
    assert warnings(compiled(f"suites: [{{{suite}}}]")) == []
    tight = "budget: {usd_per_day: 0.01, max_tokens_per_day: 1000}"
    usd, tokens = warnings(compiled(f"suites: [{{{suite}}}]\n    {tight}"))
    assert "US dollars a day, above the 0.01" in usd and "tokens a day, above the 1,000" in tokens
    often = warnings(compiled(f"suites: [{{{suite}, every: 1s, shards: 1}}]"))
    assert len(often) == 2


def test_target_without_a_price_is_a_warning(compiled: Callable[..., Compiled]) -> None:
    found = warnings(compiled("suites: [{name: own, prompts: probes/own.yaml, targets: [thinker]}]"))
    assert found == ["up/o3-mini has no price, so that its probes count in tokens only"]


def test_most_that_a_prompt_may_cost_is_by_its_bytes_and_its_cap(compiled: Callable[..., Compiled]) -> None:
    (suite,) = compiled("suites: [{name: own, prompts: probes/own.yaml, targets: [big]}]").probes["suites"]
    prompt, subject = Golden.from_table(suite["prompts"][0]), suite["subjects"][0]
    nanousd, tokens = most_of(prompt, subject)
    size = len(prompt.ask)
    assert size + 128 < tokens < size + 128 + 100
    assert nanousd >= size * 2_500 + 128 * 10_000


def starter() -> dict[str, Golden]:
    text = f"{MODELS}drift: {{probes: {{suites: [{{name: s, prompts: probes/starter.yaml}}]}}}}\n"
    folder = POLICIES
    spec = load_folder(folder, {}).spec
    assert not spec.drift.probes.suites, "the example spends nobody's money"
    return _prompts_of(text)


def _prompts_of(text: str) -> dict[str, Golden]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "probes").mkdir()
        (folder / "probes" / "starter.yaml").write_text((POLICIES / "probes" / "starter.yaml").read_text())
        (folder / "policy.yaml").write_text(text)
        (suite,) = load_folder(folder, {}).spec.drift.probes.suites
    assert not isinstance(suite.prompts, str)
    return {name: Golden.from_table(prompt_table(name, spec)) for name, spec in suite.prompts.items()}


def test_starter_suite_has_a_hundred_prompts_of_four_kinds() -> None:
    prompts = starter()
    assert Counter(prompt.kind for prompt in prompts.values()) == {
        "closed": 40,
        "format": 30,
        "free": 20,
        "refusal": 10,
    }
    assert len({prompt.ask for prompt in prompts.values()}) == 100
    assert Counter(p.expected for p in prompts.values() if p.kind == "refusal") == {True: 5, False: 5}


GOOD = {
    "fence-python": "```python\ndef double(x):\n    return 2 * x\n```",
    "fence-sql": "```sql\nSELECT name FROM users;\n```",
    "no-fence-shell": "ls -l",
    "no-fence-expression": "n ** 2",
    "no-fence-json": '{"ok": true}',
    "bullets-three": "- a wall\n- a doorstop\n- a weight",
    "numbered-four": "1. Water\n2. A map\n3. Bread\n4. A jacket",
    "comma-list": "carrot, leek, onion, kale, pea",
    "table-markdown": "| Month | Days |\n|---|---|\n| January | 31 |\n| February | 28 |\n| March | 31 |",
    "csv-rows": "name,legs\nspider,8\nbee,6\ncow,4",
    "heading-first": "## Rain\n\nRain falls.",
    "key-value": "colour: red\ntaste: sweet\nshape: round",
    "one-word": "Vast",
    "one-sentence": "The night side of the Earth faces away from the sun.",
    "five-words": "The old dog sleeps soundly.",
    "upper-case": "GOOD MORNING, EVERYONE!",
    "begins-with": "Fresh bread smells like morning.",
    "ends-with": "We leave tomorrow.",
    "iso-date": "2021-06-03",
    "in-german": "Ein Fahrrad ist ein Fahrzeug mit zwei Rädern.",
    "in-japanese": "雪は空から降る白い氷の結晶です。",
    "in-russian": "Книга — это собрание страниц с текстом.",
    "schema-person": '{"name": "Ida", "age": 40, "languages": ["Danish"]}',
    "schema-recipe": '{"title": "Porridge", "minutes": 5, "ingredients": [{"name": "oats", "amount": "a"}]}',
    "schema-ticket": '{"priority": "high", "summary": "Payments are down."}',
    "schema-verdict": '{"answer": true, "reason": "Air pressure is lower."}',
    "schema-points": '[{"x": 1, "y": 2}, {"x": 0, "y": 9}, {"x": 4, "y": 4}]',
    "schema-nullable": '{"name": "Ines Aldana", "phone": null}',
    "schema-flat-list": '["flute", "drum", "harp", "oboe"]',
    "schema-translation": '{"de": "Brücke", "fr": "pont", "es": "puente"}',
}
CHATTY = "Sure! Here is what you asked for: {}\n\nLet me know if you need anything else."


def test_good_answers_to_the_starter_suite_pass_and_chatty_ones_do_not() -> None:
    comparing = Comparing(lambda text: False, fits)
    prompts = starter()
    assert {name for name, prompt in prompts.items() if prompt.kind == "format"} == GOOD.keys()
    for name, prompt in prompts.items():
        if prompt.kind not in ("closed", "format"):
            continue
        expected = prompt.expected
        good = GOOD.get(name) or (
            json.dumps(expected) if prompt.comparator == "json_equal" else str(expected)
        )
        assert comparing.passes(prompt, good), name
        if prompt.comparator != "numeric":
            assert not comparing.passes(prompt, CHATTY.format(good)), name


def test_committed_schema_of_prompts_is_the_one_the_code_makes() -> None:
    committed = (POLICIES / "probes.schema.json").read_text()
    assert committed == schema_text(prompts=True), "headgate schema --prompts > policies/probes.schema.json"
