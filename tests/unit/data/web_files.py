"""A web server on this machine that has bad days: it breaks off, is busy, changes files, or ignores what is asked."""

import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebFiles:
    """Files, how they are served, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path; one that ends in a slash is a page."""
    breaks_after: list[int] = field(default_factory=list)
    """Bytes of each coming answer after which the connection ends; whole answers when the list is empty."""
    statuses: list[int] = field(default_factory=list)
    """Sent in place of the coming answers."""
    knows_ranges: bool = True
    knows_versions: bool = True
    knows_if_range: bool = True
    dates: dict[str, str] = field(default_factory=dict)
    """Last-Modified by path, told in place of an ETag."""
    kind: str = "application/octet-stream"
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range of each request."""
    url: str = ""


def handler_of(web: WebFiles) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked_range = self.headers.get("Range", "")
            web.asked.append((self.path, asked_range))
            if f"{self.path}/" in web.files:
                self.send_response(301)
                self.send_header("Location", f"{self.path}/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = web.files.get(self.path.partition("?")[0])
            if web.statuses or body is None:
                self.send_error(web.statuses.pop(0) if web.statuses else 404)
                return
            date = web.dates.get(self.path)
            tag = date or f'"{hashlib.md5(body).hexdigest()}"'
            start = self._start(asked_range, tag)
            if start and start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            rest = body[start:]  # before the first byte: a client may leave on a header and ask again
            rest = rest[: web.breaks_after.pop(0)] if web.breaks_after else rest
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if web.knows_versions:
                self.send_header("Last-Modified" if date else "ETag", tag)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else web.kind)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(rest)
            self.close_connection = True

        def _start(self, asked_range, tag):
            found = re.fullmatch(r"bytes=(\d+)-", asked_range)
            is_same = not web.knows_if_range or self.headers.get("If-Range", tag) == tag
            return int(found[1]) if found and web.knows_ranges and is_same else 0

        def log_message(self, *_):
            pass

    return Handler


def served(web: WebFiles):
    """Run the server around a test: yields ``web`` with its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(web))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
