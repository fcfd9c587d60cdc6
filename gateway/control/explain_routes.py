"""What the admin port says of a call that is not made: what would happen to it now, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.control.admin_port import json_answer, refusal
from gateway.control.budgets import Asks
from gateway.errors import GatewayError
from gateway.link.keeper_queries import SUMS_S, NoAnswer
from gateway.policy.explain import Known, Question, explain
from gateway.policy.explained import as_json
from gateway.policy.problem import PolicyError
from gateway.policy.question import BadQuestion, asked, question_of
from gateway.policy.snapshot import Snapshot
from gateway.quota.contract import Balance, Terms
from gateway.quota.level import Levels
from gateway.quota.rule import Rule

Tables = Mapping[str, Any]
MOST_QUESTIONS = 20
"""So many rules are asked for one by one; of more, all balances at once."""
LOOKS_BACK_MS = 7 * 86_400_000
"""From so far back the mean length of answers is taken."""


class ExplainRoutes:
    """`tables` gives what the workers have, None before the first policy; `state_of` says of a row of the
    target table 0 (ejected), 1 (on trial) or 2 (up)."""

    def __init__(
        self,
        tables: Callable[[], Tables | None],
        keeper: Asks,
        state_of: Callable[[int], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._tables = tables
        self._keeper = keeper
        self._state_of = state_of
        self._now_ms = now_ms
        self._of: Tables | None = None
        self._snapshot: Snapshot | None = None

    def add_to(self, app: web.Application) -> None:
        """Registers it."""
        app.router.add_post("/admin/explain", self.explain)

    async def explain(self, request: web.Request) -> web.Response:
        """`policy.question_spec.QuestionSpec` → `policy.explained`. What is asked is kept nowhere."""
        try:
            document = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            return refusal(400, "bad_body", "The body must be a JSON object with a key and a model.")
        snapshot = await self._current()
        if snapshot is None:
            return refusal(503, "no_policy", "The gateway has no policy yet.")
        try:
            question = question_of(asked(document), snapshot)
        except PolicyError as error:
            said = [f"{problem.path or 'A question'} {problem.message}" for problem in error.problems]
            return refusal(400, "bad_question", f"{'; '.join(said)}.")
        except BadQuestion as wrong:
            return refusal(400, "bad_question", f"{wrong}.")
        except GatewayError as error:
            words = f"The gateway would answer {error.kind.status}: {error.message}"
            return refusal(400, "bad_question", words)
        try:
            known = await self._known(snapshot, question)
        except NoAnswer as error:
            answer = refusal(503, "keeper_unavailable", str(error))
            answer.headers["retry-after"] = "1"
            return answer
        return json_answer(as_json(explain(snapshot, question, known)))

    async def _current(self) -> Snapshot | None:
        tables = self._tables()
        if tables is None:
            return None
        if tables is not self._of:
            # Of thousands of keys it takes a while; workers have made theirs.
            self._snapshot = await asyncio.to_thread(Snapshot.from_tables, tables)
            self._of = tables
        return self._snapshot

    async def _known(self, snapshot: Snapshot, question: Question) -> Known:
        balances: list[Balance] = []
        outputs: dict[str, float] = {}
        now_ms = self._now_ms()
        rules = question.caller.rules
        if rules:
            balances = await self._balances(rules)
            outputs = await self._outputs(now_ms)
        return Known(Levels(now_ms, balances), self._down(snapshot), outputs=outputs)

    async def _balances(self, rules: tuple[Rule, ...]) -> list[Balance]:
        names = [rule.name for rule in rules] if len(rules) <= MOST_QUESTIONS else [""]
        found = []
        for name in names:
            for row in await self._keeper.ask("balances", rule=name):
                found.append(Balance(**{**row, "terms": Terms(**row["terms"])}))
        return found

    async def _outputs(self, now_ms: int) -> dict[str, float]:
        """The mean output of an answer of each target, lately."""
        rows = await self._keeper.ask(
            "spend",
            within_s=SUMS_S,
            by=["target", "outcome"],
            since_ms=now_ms - LOOKS_BACK_MS,
            until_ms=now_ms + 1,
        )
        return {
            row["target"]: (row["output"] + row["reasoning"] + row["audio_output"]) / row["calls"]
            for row in rows
            if row["outcome"] == "ok" and row["calls"]
        }

    def _down(self, snapshot: Snapshot) -> dict[int, int]:
        """As workers see it (`line.health`): a target is as good as the best of its keys."""
        down: dict[int, int] = {}
        for model in snapshot.models.values():
            for target in model.targets:
                best = max((self._state_of(key.row) for key in target.provider.keys), default=2)
                state = min(best, self._state_of(target.row))
                if state != 2:
                    down[target.row] = state
        return down
