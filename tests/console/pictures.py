"""Takes the pictures of the console in docs/: `make pictures`."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Browser, async_playwright

from gateway.simulator.server import start
from tests.console.world import Traffic, policy, settings
from tests.running import ROOT, Gateway

SHOTS = {
    "light": ("light", 1280, 1330),
    "dark": ("dark", 1280, 1330),
    "narrow": ("dark", 360, 1330),
}
"""File → (colours, width, height)."""
MOST_BYTES = 300_000


async def take(browser: Browser, admin: str, folder: Path) -> None:
    """All pictures, of this moment."""
    for name, (scheme, width, height) in SHOTS.items():
        size = {"width": width, "height": height}
        page = await browser.new_page(color_scheme=scheme, viewport=size)  # type: ignore[arg-type]
        await page.goto(f"{admin}/")
        await page.wait_for_selector("#budgets-table .bar")
        path = folder / f"console-{name}.png"
        await page.screenshot(path=path)
        await page.close()
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
        assert path.stat().st_size < MOST_BYTES


async def main(seconds: float, per_s: float) -> None:
    """A gateway, its traffic for so long, and the pictures."""
    provider = await start("127.0.0.1", 0, settings())
    with TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder), policy(provider.url), workers=2, environ={})
        gateway.start()
        try:
            await gateway.ready()
            traffic = Traffic(gateway)
            running = asyncio.create_task(traffic.run(per_s))
            await asyncio.sleep(seconds)
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--no-sandbox"] * (os.geteuid() == 0)
                )
                await take(browser, gateway.admin, ROOT / "docs")
                await browser.close()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await traffic.close()
        finally:
            gateway.stop()
            await provider.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--per-s", type=float, default=10, help="calls a second")
    told = parser.parse_args()
    asyncio.run(main(told.seconds, told.per_s))
