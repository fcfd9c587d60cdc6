"""What a policy says of probes, as a table for control: who is asked what, how, and what that may cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gateway.drift.golden import Golden, most_input_tokens
from gateway.money import NANO_PER_USD, usd_text
from gateway.policy.probe_spec import COMPARATORS, ProbesSpec, PromptSpec, SuiteSpec
from gateway.policy.problem import did_you_mean
from gateway.pricing.catalogue import PriceTable
from gateway.pricing.price import STANDARD, Price
from gateway.quota.cap import floor_of

DAY_S = 86_400
Say = Callable[[Sequence[str | int], str], None]
Table = dict[str, Any]


class ProbeCompiler:
    """Compiles the section `drift.probes`. `models` are the tables of those that can be used, `known` the
    names of all; mistakes and warnings are told by path."""

    def __init__(
        self, spec: ProbesSpec, models: Sequence[Table], known: Sequence[str], say: Say, warn: Say
    ) -> None:
        self._spec = spec
        self._models = {model["name"]: model for model in models}
        self._known = known
        self._say = say
        self._warn = warn

    def table(self) -> Table:
        """`suites`, and `budget` of a day in nano-dollars and tokens. A suite's `subjects` are
        {"model", "target", "price", "cap"}; `target` is the target's own table."""
        suites = []
        names: set[str] = set()
        for number, suite in enumerate(self._spec.suites):
            path = ("drift", "probes", "suites", number)
            if suite.name in names:
                self._say((*path, "name"), f"there are two suites called {suite.name!r}")
            names.add(suite.name)
            if isinstance(suite.prompts, str):
                self._say((*path, "prompts"), "a file is read only if the policy is in a folder")
                continue
            suites.append(self._suite(path, suite, suite.prompts))
        budget = self._spec.budget
        table: Table = {
            "suites": suites,
            "budget": {
                "nanousd": math.ceil(budget.usd_per_day * NANO_PER_USD),
                "tokens": budget.max_tokens_per_day,
            },
        }
        self._check_budget(table)
        return table

    def _suite(
        self, path: tuple[str | int, ...], suite: SuiteSpec, prompts: Mapping[str, PromptSpec]
    ) -> Table:
        return {
            "name": suite.name,
            "every_s": suite.every,
            "shards": min(suite.shards, len(prompts)),
            "jitter": suite.jitter,
            "temperature": suite.temperature,
            "seed": suite.seed,
            "repeats": suite.repeats_baseline,
            "prompts": [prompt_table(name, prompt) for name, prompt in prompts.items()],
            "subjects": list(self._subjects(path, suite)),
        }

    def _subjects(self, path: tuple[str | int, ...], suite: SuiteSpec) -> Iterator[Table]:
        """Each target once, under the first model that has it."""
        if suite.targets == "all":
            models = list(self._models.values())
        else:
            models = []
            for number, name in enumerate(suite.targets):
                if name not in self._known:
                    hint = did_you_mean(name, self._known)
                    self._say((*path, "targets", number), f"there is no model {name!r}{hint}")
                elif name in self._models:
                    models.append(self._models[name])
        seen: set[str] = set()
        for model in models:
            for target in model["targets"]:
                if target["name"] in seen or (suite.targets == "all" and not _chats(target)):
                    continue
                seen.add(target["name"])
                reasons = target["reasoning"]
                yield {
                    "model": model["name"],
                    "target": target,
                    "timeout_s": model["timeouts"]["total_s"],
                    "cap": max(suite.max_tokens, floor_of(is_reasoning=True))
                    if reasons
                    else suite.max_tokens,
                }

    def _check_budget(self, table: Table) -> None:
        """Warns of what may not fit into a day."""
        nanousd = tokens = 0.0
        for suite in table["suites"]:
            rounds = DAY_S / suite["every_s"] / suite["shards"]
            for subject in suite["subjects"]:
                if subject["target"]["price"] is None:
                    name = subject["target"]["name"]
                    self._warn(
                        ("drift", "probes", "budget"),
                        f"{name} has no price, so that its probes count in tokens only",
                    )
                for prompt in suite["prompts"]:
                    cost, used = most_of(Golden.from_table(prompt), subject)
                    nanousd += rounds * cost
                    tokens += rounds * used
        budget = table["budget"]
        if nanousd > budget["nanousd"]:
            needed = usd_text(math.ceil(nanousd / 10**7) * 10**7)
            self._warn(
                ("drift", "probes", "budget"),
                f"probes may cost {needed} US dollars a day, above the {usd_text(budget['nanousd'])} they "
                "have; some will be skipped",
            )
        if tokens > budget["tokens"]:
            self._warn(
                ("drift", "probes", "budget"),
                f"probes may take {math.ceil(tokens):,} tokens a day, above the {budget['tokens']:,} they "
                "have; some will be skipped",
            )


def most_of(prompt: Golden, subject: Mapping[str, Any]) -> tuple[int, int]:
    """The most that asking a prompt may cost: nano-dollars (0 without a price), tokens."""
    tokens, cap = most_input_tokens(prompt), subject["cap"]
    price = subject["target"]["price"]
    if price is None:
        return 0, tokens + cap
    return Price.from_table(price).worst(tokens, has_audio=False).nanousd(tokens, cap), tokens + cap


def prompt_table(name: str, spec: PromptSpec) -> Table:
    """The fields of `Golden`."""
    comparator = next((name for name in COMPARATORS if name in spec.model_fields_set), "similar")
    return {
        "id": name,
        "ask": spec.ask,
        "comparator": comparator,
        "expected": None if comparator == "similar" else getattr(spec, comparator),
        "system": spec.system or "",
        "tolerance": spec.tolerance,
    }


def _chats(target: Table) -> bool:
    """False for embeddings: input is paid for and output is not."""
    price: PriceTable | None = target["price"]
    if price is None:
        return True
    per_token = price[STANDARD][0][1]
    return bool(per_token["output"] or not per_token["input"])
