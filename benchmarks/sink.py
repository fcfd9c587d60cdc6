"""Takes what is sent by OTLP over HTTP and forgets it: an endpoint that is never in the way."""

import asyncio

from aiohttp import web


async def taken(request: web.Request) -> web.Response:
    """An empty answer, as an exporter expects it."""
    await request.read()
    return web.Response(content_type="application/x-protobuf")


async def main() -> None:
    """Listens on a free port and prints it."""
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/{path:.*}", taken)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
