"""The console in a real browser, in front of a gateway with real traffic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from axe_core_python.base import AXE_SCRIPT
from playwright.async_api import Page

from tests.conftest import StartGateway, StartSimulator
from tests.console.conftest import OpenWindow, Window
from tests.console.world import Traffic
from tests.drift.test_gateway import WATCH, calls
from tests.running import Gateway, policy_for

pytestmark = pytest.mark.system

Company = tuple[Gateway, Traffic]
SERIOUS = ("serious", "critical")
NUMBER = "Number(document.querySelector('#figures .figure small').textContent.match(/([\\d,]+) since/)[1])"
"""Calls since start, as the page says."""


@pytest.fixture
async def busy(company: Company) -> AsyncIterator[Gateway]:
    """The gateway with traffic that goes on, once some of it has been counted."""
    gateway, traffic = company
    running = asyncio.create_task(traffic.run(8))
    yield gateway
    running.cancel()


async def faults(page: Page) -> list[str]:
    """What axe finds that is serious."""
    await page.evaluate(AXE_SCRIPT)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 20, "axe looked at something"
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


async def has_calls(one: Window) -> None:
    """Waits until the charts have something to show."""
    await one.page.wait_for_selector("#traffic polyline.stroke")
    await one.page.wait_for_selector("#budgets-table .bar")


async def test_first_call_is_told_pasted_and_then_seen(company: Company, window: OpenWindow) -> None:
    gateway, traffic = company
    one = await window(gateway.admin)
    await one.open()
    assert await one.text("#first h2") == "No calls yet"
    line = await one.text("#curl")
    assert line.startswith(f"curl -s {gateway.url}/chat/completions ") and "YOUR-KEY" in line
    assert await one.page.is_visible("#key-note")
    await one.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await one.page.click("#copy")
    await one.until("document.getElementById('copy').textContent === 'Copied'")
    assert await one.page.evaluate("navigator.clipboard.readText()") == line
    assert not await one.page.is_visible("#traffic")
    assert await faults(one.page) == []
    assert await traffic.one() == 200
    await one.page.wait_for_selector("#now", state="visible")
    assert not await one.page.is_visible("#first")
    assert "1 since start" in await one.text("#figures")
    assert "search" in await one.text("#spend-table")
    for _ in range(4):
        assert await traffic.one() == 200
    await one.until(f"{NUMBER} === 5")
    assert "/s · Headgate" in await one.page.title()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_axe_finds_nothing_serious_and_nothing_is_too_wide(
    busy: Gateway, window: OpenWindow, scheme: str, width: int
) -> None:
    one = await window(
        busy.admin, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
    )
    await one.open()
    await has_calls(one)
    await one.page.locator("#traffic details").first.evaluate("details => { details.open = true; }")
    assert await faults(one.page) == []
    assert await one.page.evaluate("document.documentElement.scrollWidth") == width
    dark = await one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(18, 20, 22)") == (scheme == "dark")


async def test_keyboard_reaches_every_control_and_reads_the_charts(busy: Gateway, window: OpenWindow) -> None:
    one = await window(busy.admin)
    await one.open()
    await has_calls(one)
    page = one.page
    await one.until("Number(document.querySelector('#traffic [role=slider]').ariaValueMax) >= 2")
    # What is redrawn meanwhile would be another element.
    await page.click("#pause")
    wanted = await page.evaluate(
        """() => {
          const controls = "a[href], button, select, input, summary, [tabindex='0']";
          const all = [...document.querySelectorAll(controls)].filter(
            (each) => each.checkVisibility() && (each.type !== "radio" || each.checked));
          all.forEach((each, at) => each.dataset.at = at);
          return all.length;
        }"""
    )
    reached = set()
    for _ in range(wanted + 5):
        await page.keyboard.press("Tab")
        told = await page.evaluate(
            """() => {
              const here = document.activeElement, style = getComputedStyle(here);
              const shown = here.type === "radio" ? getComputedStyle(here.nextElementSibling) : style;
              return [here.dataset.at ?? null, shown.outlineStyle];
            }"""
        )
        if told[0] is not None:
            assert told[1] != "none", "focus is seen"
            reached.add(int(told[0]))
    assert wanted > 25 and reached == set(range(wanted))

    chart = page.locator("#traffic [role=slider]").first
    await chart.focus()
    newest = await chart.get_attribute("aria-valuetext")
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("ArrowLeft")
    earlier = await chart.get_attribute("aria-valuetext")
    assert newest is not None and earlier is not None and newest != earlier
    assert "answered " in earlier and "/s" in earlier
    assert await one.text("#traffic .chart .when") == earlier.partition(": ")[0]
    await page.keyboard.press("Escape")
    assert await one.text("#traffic .chart .when") == ""


async def test_pause_span_colours_and_choice_of_table(busy: Gateway, window: OpenWindow) -> None:
    one = await window(busy.admin, color_scheme="light")
    await one.open()
    await has_calls(one)
    page = one.page
    await page.select_option("#theme", "dark")
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 22)"
    await page.check("input[name=by][value=model]")
    assert "fast" in await one.text("#spend-table tbody")
    await page.check("input[name=span][value='60']", force=True)
    await page.click("#pause")
    before = await page.evaluate(NUMBER)
    async with page.expect_response("**/admin/console*") as again:
        await page.click("#pause")
    assert (await again.value).status == 200
    await one.until(f"{NUMBER} > {before}")
    await page.reload()
    await page.wait_for_selector("#traffic polyline.stroke")
    assert await page.input_value("#theme") == "dark"
    assert await page.is_checked("input[name=span][value='60']")


async def test_mistake_in_the_policy_is_shown_until_it_is_mended(
    company: Company, window: OpenWindow
) -> None:
    gateway, _ = company
    good = gateway.policy_file.read_text()
    one = await window(gateway.admin, bypass_csp=True)
    await one.open()
    assert await one.text("#standing") == "All is well"
    gateway.policy_file.write_text(good.replace("teams:\n", "teamz:\n"))
    await one.page.wait_for_selector("#notices .notice.bad")
    said = await one.text("#notices")
    assert "policy.yaml:" in said and "teamz" in said
    assert "rejected" in await one.text("#facts")
    assert "teamz" in await one.text("#policy-notes")
    assert await faults(one.page) == []
    gateway.policy_file.write_text(good)
    await one.until("document.getElementById('standing').textContent === 'All is well'")
    assert await one.text("#notices") == ""


async def test_budgets_limits_targets_and_errors_are_shown(busy: Gateway, window: OpenWindow) -> None:
    one = await window(busy.admin)
    await one.open()
    await has_calls(one)
    await one.page.wait_for_selector("#errors-card tbody tr")
    budgets = await one.text("#budgets-table")
    for expected in ("search-month", "$40.00", "key=search-app", "1,200 requests/min", "in "):
        assert expected in budgets
    targets = await one.text("#targets-table")
    assert targets.count("up") >= 4 and "broad/reason" in targets
    errors = await one.text("#errors")
    assert "provider_" in errors and "the provider’s" in errors
    gateway = await one.text("#facts")
    assert "1 of 1" in gateway and "answers" in gateway


async def test_key_is_asked_for_kept_in_the_tab_and_forgotten(
    serve: StartGateway, company: Company, window: OpenWindow
) -> None:
    """Off loopback: the page itself comes without a key, and nothing else does."""
    text = company[0].policy_file.read_text()
    gateway = await serve(text, "--admin", "0.0.0.0:0", environ={"HEADGATE_ADMIN_KEY": "open-sesame"})
    one = await window(gateway.admin.replace("0.0.0.0", "127.0.0.1"), bypass_csp=True)
    page = one.page
    await page.goto(f"{one.admin}/")
    await page.wait_for_selector("#ask[open]")
    assert await page.evaluate("document.activeElement.id") == "key"
    assert await faults(page) == []
    await page.keyboard.type("wrong")
    await page.keyboard.press("Enter")
    await one.until("document.getElementById('ask-wrong').textContent !== ''")
    await page.keyboard.type("open-sesame")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#first", state="visible")
    assert await page.evaluate("[...Object.values(localStorage)].join().includes('sesame')") is False
    await page.reload()
    await page.wait_for_selector("#first", state="visible")
    await page.click("#forget")
    await page.wait_for_selector("#ask[open]")
    assert await page.evaluate("sessionStorage.length") == 0
    # The browser itself says that it was refused; that is no fault of the page.
    refused = [each for each in one.complaints if "401 (Unauthorized)" in each]
    assert len(refused) == 3
    one.complaints = [each for each in one.complaints if each not in refused]


async def test_gateway_that_does_not_answer_is_told_and_found_again(
    company: Company, window: OpenWindow
) -> None:
    gateway, _ = company
    one = await window(gateway.admin, bypass_csp=True)
    await one.open()
    await one.page.route("**/admin/console*", lambda route: route.abort())
    await one.page.wait_for_selector("#lost", state="visible")
    assert "has not answered since" in await one.text("#lost")
    assert await one.text("#standing") == "No answer"
    assert await one.page.is_visible("#targets-table table"), "what is known stays"
    assert await faults(one.page) == []
    await one.page.unroute("**/admin/console*")
    await one.page.wait_for_selector("#lost", state="hidden")
    one.complaints = [each for each in one.complaints if "net::ERR_FAILED" not in each]


async def test_words_of_a_policy_are_never_read_as_html(company: Company, window: OpenWindow) -> None:
    gateway, _ = company
    word = "<img src=x onerror=document.title=1>"
    one = await window(gateway.admin)
    await one.open()
    gateway.policy_file.write_text(f"{gateway.policy_file.read_text()}{json.dumps(word)}: 1\n")
    await one.page.wait_for_selector("#notices .notice.bad")
    assert word in await one.text("#notices") and word in await one.text("#policy-notes")
    assert await one.page.locator("main img").count() == 0


WRITTEN = [
    ("amount", None, "–"),
    ("amount", 0, "0"),
    ("amount", 0.0004, "0.0004"),
    ("amount", 0.0123, "0.012"),
    ("amount", 0.25, "0.25"),
    ("amount", 4.56, "4.6"),
    ("amount", 1234, "1,234"),
    ("amount", 45_678, "45.7k"),
    ("amount", 3_200_000, "3.2M"),
    ("usd", 0, "$0"),
    ("usd", 0.0000423, "$0.000042"),
    ("usd", 0.5, "$0.50"),
    ("usd", 1234.5, "$1,234.50"),
    ("usd", 45_678, "$45,678"),
    ("duration", 0.00042, "420 µs"),
    ("duration", 0.0042, "4.2 ms"),
    ("duration", 0.0421, "42 ms"),
    ("duration", 0.9996, "1 s"),
    ("duration", 12.34, "12.3 s"),
    ("share", 0.004, "0.4\u00a0%"),
    ("share", 0.5, "50\u00a0%"),
    ("span", 0, "0 s"),
    ("span", 75, "1 min"),
    ("span", 55_000, "15 h 16 min"),
    ("span", 200_000, "2 d 7 h"),
    ("bytes", 72_400_000, "72 MB"),
]


async def test_numbers_are_written_as_people_read_them(company: Company, window: OpenWindow) -> None:
    one = await window(company[0].admin)
    await one.open()
    written = await one.page.evaluate(
        """async (rows) => {
          const format = await import("/console/format.js");
          return rows.map(([kind, value]) => format[kind](value));
        }""",
        [[kind, value] for kind, value, _ in WRITTEN],
    )
    assert written == [text for _, _, text in WRITTEN]


async def test_drift_is_shown_explained_and_compared(
    serve: StartGateway, simulate: StartSimulator, http: aiohttp.ClientSession, window: OpenWindow
) -> None:
    simulator = await simulate(change_at=301, change_style="terse")
    gateway = await serve(policy_for(str(simulator.url), rest=WATCH))
    await calls(http, gateway, range(300))
    one = await window(gateway.admin)
    await one.open()
    await one.page.wait_for_selector("#drift-table td:nth-child(3) .badge.good")
    assert await one.page.locator("#notices .notice", has_text="answers").count() == 0
    await calls(http, gateway, range(300, 400))
    await one.page.wait_for_selector("#drift-table td:nth-child(3) .badge.bad")
    said = await one.text("#drift-table")
    assert "upstream/gpt-4o" in said and "→" in said and "it is the model" in said
    assert "the answers of upstream/gpt-4o (gpt-4o) changed" in await one.text("#notices")
    compare = one.page.get_by_role("button", name="Compare gpt-4o on upstream/gpt-4o")
    await compare.click()
    await one.page.wait_for_selector("#drift-compare figure svg")
    assert await one.page.locator("#drift-compare figure").count() == 8
    length = one.page.locator("#drift-compare figure svg").first
    assert "most are" in str(await length.get_attribute("aria-label"))
    assert await faults(one.page) == []
    await compare.click()
    await one.page.wait_for_selector("#drift-compare", state="hidden")
