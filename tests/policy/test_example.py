"""The example policies work: with the simulator alone, and with a provider as soon as its key is there."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.compile import Compiled, compile_policy
from gateway.policy.load import load_folder, secret_reader
from gateway.policy.snapshot import Snapshot
from gateway.pricing.catalogue import Catalogue

POLICIES = Path(__file__).parents[2] / "policies"
DEMO_KEY = b"hg-demo-key-for-make-run-only-do-not-deploy-0"


def compiled(environ: dict[str, str], catalogue: Catalogue) -> Compiled:
    return compile_policy(
        load_folder(POLICIES, environ),
        secret_of=secret_reader(environ),
        row_of=lambda _: 0,
        catalogue=catalogue,
        at=datetime(2026, 11, 20, tzinfo=UTC),
        simulated_url="http://127.0.0.1:9999/v1",
    )


def test_without_any_key_the_simulator_serves_all_models(catalogue: Catalogue) -> None:
    tables = compiled({}, catalogue).tables
    assert [provider["name"] for provider in tables["providers"]] == ["simulator"]
    assert {model["name"] for model in tables["models"]} == {"gpt-4o-mini", "fast", "embed"}
    assert all(target["price"] for model in tables["models"] for target in model["targets"])


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY"])
def test_key_in_the_environment_puts_its_provider_first(catalogue: Catalogue, name: str) -> None:
    found = compiled({name: "sk-1"}, catalogue)
    provider = name.split("_")[0].lower()
    (fast,) = (model for model in found.tables["models"] if model["name"] == "fast")
    assert fast["targets"][0]["name"].startswith(f"{provider}/")
    assert fast["targets"][0]["price"] is not None
    assert fast["targets"][-1]["name"] == "simulator/fast"


def test_demo_key_may_use_everything(catalogue: Catalogue) -> None:
    snapshot = Snapshot.from_tables(compiled({}, catalogue).tables)
    key = snapshot.key_of(DEMO_KEY)
    assert key is not None
    assert set(key.models) == set(snapshot.models)
    assert hashlib.sha256(DEMO_KEY).hexdigest() in (POLICIES / "03-teams.yaml").read_text()


def test_every_file_tells_editors_its_schema() -> None:
    for path in POLICIES.glob("*.yaml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=./schema.json\n"), path.name


def test_example_limits_and_budget_warn_of_nothing(catalogue: Catalogue) -> None:
    found = compiled({}, catalogue)
    names = [rule["name"] for rule in found.tables["rules"]]
    assert names == ["each-key.requests", "each-key.tokens", "each-key.concurrent", "demo-day"]
    assert [warning for warning in found.warnings if warning.path.startswith(("limits", "budgets"))] == []


def test_what_is_written_about_limits_is_a_policy(compile_text: Any) -> None:
    text = (POLICIES.parent / "docs" / "limits.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    more = "models:\n  big: {targets: [openai/gpt-4o]}\n  small: {targets: [openai/gpt-4o-mini]}\n"
    policy = "\n".join(blocks).replace("models:\n", more)
    digest = hashlib.sha256(DEMO_KEY).hexdigest()
    base = (
        "providers: {openai: {}}\n"
        "teams: {search: {models: ['*']}}\n"
        f"keys: {{app: {{team: search, sha256: {digest}}}}}\n"
    )
    environ = {
        "OPENAI_API_KEY": "sk-1",
        "REDIS_URL": "redis://h",
        "BUDGET_WEBHOOK": "https://h",
        "BUDGET_WEBHOOK_SECRET": "x",
    }
    found = compile_text(base + policy, environ)
    assert len(found.tables["rules"]) == 7
    assert found.warnings == []
