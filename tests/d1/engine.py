"""D1's own engine on loopback, behind Cloudflare's path and a token check: what `d1://` speaks to in tests."""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

FOLDER = Path(__file__).parent
TOKEN = "a-token-of-cloudflare"
ACCOUNT = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class D1Server:
    """A running engine with some databases, by their ids. They are as the last test left them: `empty` them first."""

    base_url: str
    databases: Sequence[str]

    def url(self, database: str) -> str:
        """As in `PROJECTION_URL`."""
        return f"d1://{ACCOUNT}/{database}"

    def run(self, database: str, sql: str, *parameters: str) -> list[dict[str, Any]]:
        """What a person with Cloudflare's console does. Blocks for some 2 ms; raises RuntimeError in D1's words."""
        request = Request(  # noqa: S310 (our own address)
            f"{self.base_url}/accounts/{ACCOUNT}/d1/database/{database}/query",
            json.dumps({"sql": sql, "params": parameters}).encode(),
            {"Authorization": f"Bearer {TOKEN}"},
        )
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310
                results: list[dict[str, Any]] = json.load(answer)["result"][-1]["results"]
                return results
        except HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def empty(self, database: str) -> None:
        """Leave nothing in it."""
        found = self.run(database, "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view')")
        ours = [one for one in found if not one["name"].startswith(("_cf_", "sqlite_"))]
        if ours:
            self.run(database, ";".join(f"DROP {one['type']} {one['name']}" for one in ours))


@contextmanager
def d1_server(databases: int = 4) -> Iterator[D1Server]:
    """A new engine whose databases live in memory. Installs what `package-lock.json` names when it is not there yet."""
    _install()
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(databases)]
    options = json.dumps({"token": TOKEN, "account": ACCOUNT, "databases": ids})
    command = ["node", str(FOLDER / "server.mjs"), options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            origin = process.stdout.readline().strip()
            assert origin.startswith("http://"), "D1's engine did not start; what it said is above"
            yield D1Server(f"{origin}/client/v4", ids)
            process.communicate(timeout=10)  # ends its standard input, and so the server
        finally:
            process.kill()


def _install() -> None:
    with (FOLDER / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs may begin at once
        if not (FOLDER / "node_modules" / ".package-lock.json").is_file():  # npm writes it last
            npm = shutil.which("npm")
            assert npm, "the tests of D1 need Node.js 18 or later, with npm"
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=FOLDER, check=True, stdout=sys.stderr)


@pytest.fixture(scope="session")
def d1() -> Iterator[D1Server]:
    """One engine for a session; import this name into a `conftest.py`."""
    with d1_server() as server:
        yield server
