"""A way to D1's engine on which things go wrong, as they do between here and Cloudflare."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to a request. Without anything it is passed on.

    status: answered by the proxy, with `body` and `headers`. slow: seconds before anything happens. lost: passed on,
    and the answer is thrown away with the connection. only: for requests whose SQL begins with this.
    """

    status: int | None = None
    body: bytes = b"<html>Bad Gateway</html>"
    headers: Mapping[str, str] = field(default_factory=dict)
    slow: float = 0.0
    lost: bool = False
    only: str = ""


def said(status: int, code: int, message: str, **headers: str) -> Fault:
    """An error as Cloudflare words it."""
    body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
    return Fault(status, json.dumps(body).encode(), headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Who gave up waiting is gone: that is what is tested."""


class Proxy:
    """Passes requests on to `target` and remembers them. `faults` happen once each, in order; `always` to the rest."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.faults: list[Fault] = []
        self.always = Fault()
        self.requests: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self._target.path}"

    @property
    def statements(self) -> list[str]:
        """The SQL of every request so far, by its first words."""
        return [" ".join(request["sql"].split()[:3]) for request in self.requests]

    def forget(self) -> None:
        """No faults, no memory."""
        self.faults, self.always, self.requests, self.tokens = [], Fault(), [], set()

    @contextmanager
    def serving(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _fault(self, sql: str) -> Fault:
        with self._lock:
            if self.faults and sql.startswith(self.faults[0].only):
                return self.faults.pop(0)
            return self.always if sql.startswith(self.always.only) else Fault()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # in one packet: else the client's acknowledgement of the first is waited for, 40 ms

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                proxy.requests.append(request)
                proxy.tokens.add(self.headers["Authorization"])
                fault = proxy._fault(request["sql"])
                time.sleep(fault.slow)
                if fault.status is not None:
                    self._answer(fault.status, fault.body, fault.headers)
                    return
                connection = HTTPConnection(proxy._target.netloc, timeout=30)
                connection.request("POST", self.path, body, {"Authorization": self.headers["Authorization"]})
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if fault.lost:
                    self.close_connection = True
                    return
                self._answer(answer.status, content, fault.headers)

            def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
