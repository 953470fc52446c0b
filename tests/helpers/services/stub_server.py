"""A local server with a health check and a fixed answer to every other request, which it records."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stub:
    """A running server.

    Attributes:
        uri: Its address.
        requests: Path and `Authorization` of each request except health checks.
    """

    uri: str
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@contextlib.contextmanager
def stub_server(
    *, status: int = 200, body: bytes = b"{}", authorization: str | None = None, location: str | None = None
) -> Iterator[Stub]:
    """Run the server; with `authorization`, requests without exactly this header get 401."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/health"):
                self._answer(200, b"OK")
                return
            sent = self.headers.get("Authorization")
            stub.requests.append((self.path, sent))
            authorized = authorization in (None, sent)
            self._answer(status if authorized else 401, body if authorized else b"Who are you?")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def _answer(self, code: int, content: bytes) -> None:
            self.send_response(code)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub = Stub(f"http://127.0.0.1:{server.server_port}")
        # `shutdown` waits for the server's next look, every half second unless told otherwise
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield stub
        server.shutdown()
