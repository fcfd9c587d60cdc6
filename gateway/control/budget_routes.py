"""What the admin port says of limits, budgets and spending, and how budgets are topped up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import orjson
from aiohttp import web

from gateway.control.admin_port import WHO, json_answer, refusal
from gateway.control.budgets import Asks
from gateway.control.standing import Standing, Table, by_bucket, is_of, standings
from gateway.link.keeper_queries import SUMS_S, NoAnswer, WrongQuestion
from gateway.money import nanousd_of
from gateway.quota.moment import iso, moment_ms
from gateway.quota.spending import BY, priced, summed, written

PAGE, LONGEST_PAGE = 100, 1_000
MOST_ROWS = 50_000
"""Of an answer about spending: 10 MB."""
MOST_USD = 9_000_000
"""As of budgets in a policy."""
LONGEST_NOTE = 500

_BODY = {"top-up": {"usd", "subject", "note", "by"}, "reset": {"subject", "note", "by"}}


class Refused(Exception):
    """What was asked cannot be done; becomes an error answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = status, code, message


class BudgetRoutes:
    """The routes under /admin/budgets, /admin/spend and /admin/ledger. `rules` gives the rules in force,
    `now_ms` the time."""

    def __init__(self, keeper: Asks, rules: Callable[[], Sequence[Table]], now_ms: Callable[[], int]) -> None:
        self._keeper = keeper
        self._rules = rules
        self._now_ms = now_ms

    def add_to(self, app: web.Application) -> None:
        """Registers them."""
        app.router.add_get("/admin/budgets", self.budgets)
        app.router.add_post("/admin/budgets/{name}/top-up", self.top_up)
        app.router.add_post("/admin/budgets/{name}/reset", self.reset)
        app.router.add_get("/admin/spend", self.spend)
        app.router.add_get("/admin/ledger/verify", self.verify)

    async def budgets(self, request: web.Request) -> web.Response:
        """A page of standings in the order of their ids; `next` is the `after` of the next page."""
        query = _query(request, "name", "subject", "after", "limit")
        if query is None:
            return refusal(400, "unknown_parameter", "There are name, subject, after and limit.")
        size = query.get("limit", str(PAGE))
        if not size.isdecimal() or not 1 <= int(size) <= LONGEST_PAGE:
            return refusal(400, "bad_parameter", f"limit must be a number from 1 to {LONGEST_PAGE}.")
        name, subject, after = query.get("name", ""), query.get("subject", ""), query.get("after", "")
        try:
            found = await self._standings(name)
        except NoAnswer as error:
            return _no_answer(error)
        rows = [
            each
            for each in by_bucket(found)
            if each.bucket > after and (not subject or _is_like(each.subject, subject))
        ]
        now_ms, most = self._now_ms(), int(size)
        page = [each.as_json(now_ms) for each in rows[:most]]
        return json_answer({"budgets": page, "next": page[-1]["id"] if len(rows) > most else None})

    async def top_up(self, request: web.Request) -> web.Response:
        """Adds `usd` to the window under way of one subject."""
        try:
            rule, body = self._budget(request.match_info["name"]), await _body(request, "top-up")
            amount = _usd(body.get("usd"))
            (subject,) = await self._subjects(rule, body, only_one=True)
            who, note = _audit(request, body)
            told = await self._keeper.ask("adjust", bucket=subject.bucket, amount=amount, who=who, note=note)
        except Refused as refused:
            return refusal(*refused.answer)
        except NoAnswer as error:
            return _no_answer(error)
        return json_answer({"budget": self._as_json([told])[0]})

    async def reset(self, request: web.Request) -> web.Response:
        """Fills the window under way again, of one subject or of all."""
        try:
            rule, body = self._budget(request.match_info["name"]), await _body(request, "reset")
            subjects = await self._subjects(rule, body, only_one=False)
            one = subjects[0].subject if body.get("subject") else ""
            who, note = _audit(request, body)
            told = await self._keeper.ask("reset", rule=rule["name"], subject=one, who=who, note=note)
        except Refused as refused:
            return refusal(*refused.answer)
        except NoAnswer as error:
            return _no_answer(error)
        return json_answer({"budgets": self._as_json(told)})

    async def spend(self, request: web.Request) -> web.Response:
        """Sums of the usage ledger, as JSON or CSV."""
        query = _query(request, "by", "since", "until", "format")
        if query is None:
            return refusal(400, "unknown_parameter", "There are by, since, until and format.")
        kind = query.get("format", "json")
        if kind not in ("json", "csv"):
            return refusal(400, "bad_parameter", "format must be json or csv.")
        by = [name for name in query.get("by", "").split(",") if name]
        if not set(by) <= set(BY):
            return refusal(400, "bad_parameter", f"by is a list of {', '.join(BY)}.")
        now_ms = self._now_ms()
        try:
            since_ms = moment_ms(query.get("since", "this-month"), now_ms)
            until_ms = moment_ms(query.get("until", "now"), now_ms)
        except ValueError as wrong:
            return refusal(400, "bad_parameter", f"since and until {wrong}.")
        try:
            rows = await self._keeper.ask(
                "spend", within_s=SUMS_S, by=by, since_ms=since_ms, until_ms=until_ms
            )
        except NoAnswer as error:
            return _no_answer(error)
        if len(rows) > MOST_ROWS:
            return refusal(
                400, "too_many_rows", f"{len(rows)} rows: ask for a shorter time, or by less than {by}."
            )
        if kind == "csv":
            return web.Response(
                text=written([priced(row) for row in rows], by),
                headers={"content-type": "text/csv; charset=utf-8; header=present"},
            )
        span = {"by": by, "since": iso(since_ms), "until": iso(until_ms)}
        return json_answer({**span, "rows": [priced(row) for row in rows], "total": priced(summed(rows))})

    async def verify(self, request: web.Request) -> web.Response:
        """Whether rows, holds and balances agree."""
        try:
            wrong = await self._keeper.ask("verify", within_s=SUMS_S)
        except NoAnswer as error:
            return _no_answer(error)
        return json_answer({"ok": not wrong, "problems": wrong})

    def _budget(self, name: str) -> Table:
        rules = [rule for rule in self._rules() if rule["policy_name"] == name]
        money = [rule for rule in rules if rule["measure"] == "usd"]
        if money:
            return money[0]
        if rules:
            raise Refused(400, "not_a_budget", f"{name!r} is a limit; only budgets hold money.")
        raise Refused(404, "not_found", f"The policy has no budget {name!r}.")

    async def _standings(self, name: str) -> list[Standing]:
        rules = [rule for rule in self._rules() if not name or fnmatchcase(rule["policy_name"], name)]
        ask = rules[0]["name"] if len(rules) == 1 else ""
        balances = await self._keeper.ask("balances", rule=ask) if rules else []
        return list(standings(rules, balances, self._now_ms()))

    async def _subjects(self, rule: Table, body: Mapping[str, Any], *, only_one: bool) -> list[Standing]:
        """The buckets under way of a budget that a request means."""
        balances, now_ms = await self._keeper.ask("balances", rule=rule["name"]), self._now_ms()
        made = {balance["bucket"] for balance in balances}
        found = [each for each in standings([rule], balances, now_ms) if each.is_current(now_ms)]
        asked = body.get("subject", "")
        meant = [each for each in found if each.bucket in made and (not asked or is_of(each.subject, asked))]
        if not meant:
            of_whom = f" of {asked!r}" if asked else ""
            message = f"No call{of_whom} has counted towards {rule['policy_name']!r} in this window yet."
            raise Refused(404, "not_found", message)
        if len(meant) > 1 and (only_one or asked):
            shown = ", ".join(each.subject for each in by_bucket(meant)[:10])
            raise Refused(400, "subject_needed", f"Say which subject: {shown}, …")
        return meant

    def _as_json(self, balances: Sequence[Table]) -> list[dict[str, Any]]:
        now_ms = self._now_ms()
        made = {balance["bucket"] for balance in balances}
        found = standings(self._rules(), balances, now_ms)
        return [each.as_json(now_ms) for each in by_bucket(found) if each.bucket in made]


def _query(request: web.Request, *known: str) -> dict[str, str] | None:
    """The parameters, each once; None if there are others."""
    query = dict(request.query)
    return query if set(query) <= set(known) and len(request.query) == len(query) else None


async def _body(request: web.Request, action: str) -> dict[str, Any]:
    known = _BODY[action]
    try:
        body = orjson.loads(await request.read() or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict) or not set(body) <= known:
        raise Refused(400, "bad_body", f"The body must be a JSON object with {', '.join(sorted(known))}.")
    for name in known - {"usd"}:
        value = body.get(name, "")
        if not isinstance(value, str) or len(value) > LONGEST_NOTE or not (value.isprintable() or not value):
            raise Refused(400, "bad_body", f"{name} must be a line of at most {LONGEST_NOTE} characters.")
    return body


def _usd(value: Any) -> int:
    """Nano-dollars. A number of JSON is taken as it was most likely written: 0.1 is a tenth."""
    text = value if isinstance(value, str) else repr(value) if type(value) in (int, float) else ""
    amount = nanousd_of(text)
    if not amount or abs(amount) > MOST_USD * 1_000_000_000:
        raise Refused(
            400,
            "bad_body",
            'usd must be an amount like "25.50", negative to take away, with at most nine decimals and not '
            f"beyond {MOST_USD:,}.",
        )
    return amount


def _audit(request: web.Request, body: Mapping[str, Any]) -> tuple[str, str]:
    """(who, note) for the ledger. Who: the key (or that there was none), and who says to have used it."""
    says = body.get("by", "")
    who = request[WHO]
    return f"{who} ({says})" if says else who, body.get("note", "")


def _is_like(subject: str, asked: str) -> bool:
    return is_of(subject, asked) or fnmatchcase(subject, asked)


def _no_answer(error: NoAnswer) -> web.Response:
    if isinstance(error, WrongQuestion):
        return refusal(404, "not_found", str(error))
    answer = refusal(503, "keeper_unavailable", str(error))
    answer.headers["retry-after"] = "1"
    return answer
