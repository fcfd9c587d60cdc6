"""A browser, and a gateway to look at."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from gateway.simulator.server import Simulator
from tests.conftest import StartGateway, StartSimulator
from tests.console.world import Traffic, policy, settings
from tests.running import Gateway, eventually


class Window:
    """A page of the console, and what went wrong in it."""

    def __init__(self, page: Page, admin: str) -> None:
        self.page = page
        self.admin = admin
        self.complaints: list[str] = []
        """Errors and warnings of the browser's console, and exceptions."""
        self.elsewhere: list[str] = []
        """Requests to other hosts than the gateway."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    async def open(self) -> None:
        """Goes there and waits until it shows something."""
        await self.page.goto(f"{self.admin}/")
        await self.until("document.getElementById('foot').textContent !== ''")

    async def until(self, holds: str) -> None:
        """Until a JavaScript expression is true. `wait_for_function` evaluates in the page, whose content
        security policy forbids that."""
        await eventually(lambda: self.page.evaluate(holds), says=lambda: f"{holds} {self.complaints}")

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.admin).netloc:
            self.elsewhere.append(request.url)


OpenWindow = Callable[..., Awaitable[Window]]


@pytest.fixture
async def browser(system_tool: Callable[[str], str]) -> AsyncIterator[Browser]:
    """Debian's Chromium. Its sandbox needs another user than root."""
    flags = ["--no-sandbox"] * (os.geteuid() == 0)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=system_tool("chromium"), args=flags)
        yield browser
        await browser.close()


@pytest.fixture
async def window(browser: Browser) -> AsyncIterator[OpenWindow]:
    """`await window(admin, color_scheme="dark")`: a new window of a new profile, not yet at the console, with
    the settings of `Browser.new_context`. Afterwards it must not have complained or asked elsewhere."""
    opened: list[Window] = []

    async def new(admin: str, **told: Any) -> Window:
        context = await browser.new_context(**told)
        one = Window(await context.new_page(), admin)
        opened.append(one)
        return one

    yield new
    for one in opened:
        await one.page.context.close()
    assert [complaint for one in opened for complaint in one.complaints] == []
    assert [url for one in opened for url in one.elsewhere] == []


@pytest.fixture
async def company(simulate: StartSimulator, serve: StartGateway) -> AsyncIterator[tuple[Gateway, Traffic]]:
    """The gateway of `tests.console.world`, and its traffic, which does not run yet."""
    told = settings()
    provider: Simulator = await simulate(
        first_token_ms=told.first_token_ms, tokens_per_s=told.tokens_per_s, output_tokens=told.output_tokens
    )
    gateway = await serve(policy(provider.url))
    traffic = Traffic(gateway)
    yield gateway, traffic
    await traffic.close()
