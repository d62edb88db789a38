"""A small server for one page and its votes, on this machine only.

It gives out the page at its root and takes votes at `PATH`. Each vote is checked against the study and appended to the
file before it is answered, so that a crash loses none that was confirmed. A page of another site cannot vote: the
request must name this host, and its body must be declared as JSON, which browsers let no foreign page send.
"""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rein.errors import DamagedFileError, InputError, OutputError
from rein.evaluation.rating import Study, checked_vote, vote_line
from rein.files import write_failure
from rein.html import Page

PATH = "/vote"
_HOST = "127.0.0.1"
_LARGEST_VOTE, _MOST_READ, _DIGITS = 4096, 2**16, 10
_PATIENCE = 10.0


class _Quiet(ThreadingHTTPServer):
    """A server that says nothing of browsers that went away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a vote that was not answered is sent again or shown as lost by the page."""


class VoteServer:
    """Serves a page and stores its votes until Ctrl-C.

    Raises:
        InputError: a port that is out of range or taken.
        OutputError: the file of votes cannot be written.
    """

    def __init__(self, page: Page, study: Study, votes: Path, port: int) -> None:
        if not 0 <= port <= 65_535:
            raise InputError(f"port is {port}: it must be from 0 (any free one) to 65535")
        self._content = page.render().encode("utf-8", "replace")
        self._study, self._votes, self._lock = study, votes, threading.Lock()
        self._append(b"")  # a file that cannot be written is found out now
        try:
            self._server = _Quiet((_HOST, port), self._handler())
        except OSError as error:
            raise InputError(f"cannot listen on port {port}: {error.strerror or error}") from error

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{_HOST}:{self.port}/"

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.server_port

    def run(self) -> None:
        """Answer until Ctrl-C, or until `stop` is called by another thread."""
        try:
            self._server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self._server.server_close()

    def stop(self) -> None:
        """End `run`."""
        self._server.shutdown()

    def store(self, body: bytes) -> None:
        """Check a vote and append it to the file. Raises `DamagedFileError` or `OutputError`."""
        self._append(vote_line(checked_vote(body, self._study)))

    def _append(self, line: bytes) -> None:
        try:
            with self._lock, self._votes.open("ab") as handle:
                handle.write(line)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise write_failure(self._votes, error) from error

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one request."""

            timeout = _PATIENCE

            def do_GET(self) -> None:
                found = self.path == "/" and self._is_ours()
                self._answer(200 if found else 404, owner._content if found else b"not here\n")

            def do_POST(self) -> None:
                self._answer(*self._voted())

            def _voted(self) -> tuple[int, bytes]:
                body = self._body()
                declared = self.headers.get("Content-Type", "").partition(";")[0].strip()
                if self.path != PATH or not self._is_ours():
                    return 404, b"not here\n"
                if declared != "application/json" or not 0 < len(body) <= _LARGEST_VOTE:
                    return 400, b"not a vote\n"
                try:
                    owner.store(body)
                except DamagedFileError as error:
                    return 400, f"{error}\n".encode("utf-8", "replace")
                except OutputError as error:
                    return 500, f"{error}\n".encode("utf-8", "replace")
                return 200, b"stored\n"

            def _body(self) -> bytes:
                """What was sent, read even where it is refused: closing a connection before that loses the answer."""
                length = self.headers.get("Content-Length", "")
                count = int(length) if length.isdecimal() and len(length) < _DIGITS else 0
                return self.rfile.read(min(count, _MOST_READ))

            def _is_ours(self) -> bool:
                """Whether the request came to this host by its own name; a foreign name may be a trick."""
                return f"http://{self.headers.get('Host', '')}/" in (owner.address, f"http://localhost:{owner.port}/")

            def _answer(self, code: int, content: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", "text/html; charset=utf-8" if code == 200 else "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Nothing: the file of votes is the record."""

        return Handler
