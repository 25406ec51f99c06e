"""Real processes over real loopback sockets: the command, the service, the simulator, and all that they say."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

COMMAND = Path(sys.executable).with_name("runware-provider")
PATIENCE = 30.0
"""Seconds after which a test gives up; nothing here is meant to take a tenth of it."""

JsonObject = dict[str, Any]


def eventually(holds: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for what happens in another process, of which no event tells us."""
    until = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def fetch(
    url: str, method: str = "GET", body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of one request."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=PATIENCE)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {} if data is None else {"Content-Type": "application/json"}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, data, {**given, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@dataclass(frozen=True)
class Finished:
    """What a command that has ended said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for scripts."""
        return json.loads(self.out)


class Running:
    """A process that runs until it is told to stop; its output is read all the while."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            arguments,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._said = threading.Condition()
        self._lines: dict[str, list[str]] = {"out": [], "err": []}
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=each, daemon=True)
            for each in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            with self._said:
                self._lines[name].append(line)
                self._said.notify_all()
        with self._said:
            self._said.notify_all()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return "".join(self._lines["out"])

    @property
    def err(self) -> str:
        """What it wrote to stderr so far."""
        return "".join(self._lines["err"])

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def wait_for(self, words: str, patience: float = PATIENCE) -> str:
        """The first line of stdout with these words."""
        until = time.monotonic() + patience
        with self._said:
            while True:
                for line in self._lines["out"]:
                    if words in line:
                        return line.strip()
                still_runs = self._process.poll() is None
                assert still_runs, f"ended with {self._process.returncode}: {self.out}{self.err}"
                assert time.monotonic() < until, f"{words!r} was not said: {self.out}{self.err}"
                self._said.wait(0.2)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> Finished:
        """What it came to."""
        code = self._process.wait(patience)
        for reader in self._readers:
            reader.join(patience)
        return Finished(code, self.out, self.err)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Finished:
        """Signal and wait."""
        self.send(number)
        return self.wait()

    def kill(self) -> Finished:
        """The end that no process can prepare for."""
        return self.stop(signal.SIGKILL)

    def end(self) -> Finished:
        """Whatever it takes: it and what it started is gone after this."""
        if not self.ended:
            os.killpg(self.pid, signal.SIGKILL)
        finished = self.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return finished


@dataclass
class Simulated:
    """A running simulator."""

    process: Running
    origin: str

    @property
    def url(self) -> str:
        """The API's URL."""
        return f"{self.origin}/v1"

    @property
    def stats(self) -> JsonObject:
        """The simulator's totals."""
        return self._get("/_simulator/stats")

    @property
    def ledger(self) -> list[JsonObject]:
        """Every task that it was asked for."""
        entries: list[JsonObject] = self._get("/_simulator/ledger?limit=1000")["entries"]
        return entries

    def stage(self, *rules: JsonObject) -> None:
        """Put a fault plan in force."""
        status, body = fetch(f"{self.origin}/_simulator/faults", "PUT", {"rules": list(rules)})
        assert status == 200, body

    def _get(self, path: str) -> JsonObject:
        status, body = fetch(self.origin + path)
        assert status == 200, body
        content: JsonObject = json.loads(body)
        return content


@dataclass
class Service:
    """A running service."""

    process: Running
    url: str
    token: str | None = None

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of a request of the client API."""
        signed = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return fetch(self.url + path, method, body, {**signed, **headers})

    def get(self, path: str) -> Any:
        """A JSON answer."""
        status, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def create(self, prompt: str = "a lighthouse at dusk", **fields: Any) -> JsonObject:
        """The state of a generation that was accepted."""
        given = {"positivePrompt": prompt, "model": "runware:101@1", "width": 256, "height": 256, **fields}
        status, body = self.ask("POST", "/v1/generations", {"input": given})
        assert status == 202, body
        state: JsonObject = json.loads(body)
        return state

    def state(self, generation_id: str) -> JsonObject:
        """The state of a generation."""
        state: JsonObject = self.get(f"/v1/generations/{generation_id}")
        return state

    def settled(self, generation_id: str) -> JsonObject:
        """The state of a generation once it is complete and in the read model, or was refused there."""
        states: list[JsonObject] = [self.state(generation_id)]

        def holds() -> bool:
            states[0] = self.state(generation_id)
            return is_settled(states[0])

        eventually(holds)
        return states[0]

    def idle(self) -> None:
        """Wait until nothing is left to do."""
        eventually(lambda: not any(self.get("/readyz")["tasks"].values()))


def is_settled(state: JsonObject) -> bool:
    """Whether a generation is complete and in the read model, or the read model refused it."""
    return bool(state["completed_at"] and (state["projected_at"] or state["projection_error"]))


@dataclass
class World:
    """A folder, an environment, and what runs in them. All that is said there is kept."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    said: list[tuple[str, Finished]] = field(default_factory=list)
    _running: list[tuple[str, Running]] = field(default_factory=list)

    def __post_init__(self) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        self.environ = {**inherited, "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONWARNINGS": "error", **self.environ}

    @property
    def data(self) -> Path:
        """The default data directory."""
        return self.folder / "runware-data"

    def start(self, *arguments: str, **settings: str) -> Running:
        """A process that goes on; `settings` are added to the environment."""
        process = Running([str(COMMAND), *arguments], {**self.environ, **settings}, self.folder)
        self._running.append((" ".join(arguments), process))
        return process

    def run(self, *arguments: str, patience: float = PATIENCE, **settings: str) -> Finished:
        """A command, to its end."""
        process = self.start(*arguments, **settings)
        try:
            return process.wait(patience)
        finally:
            process.end()

    def simulate(self, *options: str) -> Simulated:
        """A simulator; what this world starts from now on uses it."""
        process = self.start("simulate", "--port", "0", *options)
        url = process.wait_for("listens on").rpartition(" ")[2]
        process.wait_for("IMAGE_HOSTS")
        self.environ |= {
            "RUNWARE_API_KEY": self.environ.get("RUNWARE_API_KEY", "simulated"),
            "RUNWARE_PROVIDER_RUNWARE_URL": url,
            "RUNWARE_PROVIDER_IMAGE_HOSTS": "127.0.0.1",
        }
        return Simulated(process, url.removesuffix("/v1"))

    def serve(self, *options: str, port: int = 0, **settings: str) -> Service:
        """A service that polls, or uses the PUBLIC_URL of the settings."""
        process = self.start("serve", "--port", str(port), *options, **settings)
        url = process.wait_for("listens on").rpartition(" ")[2]
        tokens = {**self.environ, **settings}.get("RUNWARE_PROVIDER_CLIENT_TOKENS", "")
        return Service(process, url, tokens.partition(",")[0] or None)

    def serve_with_webhooks(self, *options: str, **settings: str) -> Service:
        """A service to which results are delivered."""
        port = free_port()
        return self.serve(
            *options, port=port, **{"RUNWARE_PROVIDER_PUBLIC_URL": f"http://127.0.0.1:{port}", **settings}
        )

    def python(self, script: str, *arguments: str) -> Finished:
        """A Python script in this world."""
        process = Running([sys.executable, "-c", script, *arguments], self.environ, self.folder)
        self._running.append(("python", process))
        return process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name, process in reversed(self._running):
            self.said.append((name, process.end()))


def alive(pid: int) -> bool:
    """Whether the process is there, and no mere entry that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def free_port() -> int:
    """A TCP port that nothing listens on; the address of a service must be known before it starts."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and those below it."""
    return sorted(each for each in folder.rglob("*") if each.suffix in {".jpg", ".png", ".webp"})
