"""`open`: the gallery of the running service in the browser."""

import asyncio
import os
import webbrowser

from runware_provider.cli.commands import path_of
from runware_provider.cli.connection import of_service
from runware_provider.cli.console import err, out, say
from runware_provider.settings import Settings


async def browse(settings: Settings, id: str | None, *, only_print: bool) -> None:
    """Open the gallery, or the page of one generation. Raises ConfigurationError when no service runs."""
    path = None if id is None else path_of(id)
    async with of_service(settings) as (api, url):
        page = f"{url}/" if path is None else f"{url}/g/{(await api.get(path))['id']}"
    say(out, page)
    if only_print or await asyncio.to_thread(webbrowser.open, page):
        return
    say(err, "no browser could be started here; open that address in yours")
    if "SSH_CONNECTION" in os.environ:
        port = url.rpartition(":")[2]
        say(err, f"from your own machine: ssh -L {port}:127.0.0.1:{port} to this one, then http://127.0.0.1:{port}/")
