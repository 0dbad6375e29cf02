"""An HTTP proxy before a chain's endpoint that changes what it answers."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

JSON = {"Content-Type": "application/json"}


class Endpoint(ThreadingHTTPServer):
    """``lie(method, params, result)`` gives what is told instead; ``spoil(body)`` the answer's bytes or its
    pieces, where the request names one of ``methods``, if they are given."""

    daemon_threads = True

    def __init__(self, url, lie=None, spoil=None, methods=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = httpx.Client(base_url=url, timeout=30, trust_env=False, headers=JSON)
        self.lie, self.spoil, self.methods = lie, spoil, methods
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Who hangs up on a liar is in the right."""

    def answered(self, body):
        asked = json.loads(body)
        told = json.loads(self.behind.post("", content=body).content)
        pairs = zip(asked, told, strict=True) if isinstance(asked, list) else [(asked, told)]
        for question, answer in pairs:
            if self.lie and "result" in answer:
                changed = self.lie(question["method"], question["params"], answer["result"])
                if isinstance(changed, Refusal):
                    del answer["result"]
                    answer["error"] = {"code": -32601, "message": str(changed)}
                else:
                    answer["result"] = changed
        return json.dumps(told).encode()

    def spoils(self, body):
        return self.spoil and (not self.methods or any(each.encode() in body for each in self.methods))


class Refusal(Exception):
    """Told instead of a result."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = self.server.answered(body)
        pieces = self.server.spoil(told) if self.server.spoils(body) else told
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if isinstance(pieces, bytes):
            self.send_header("Content-Length", str(len(pieces)))
            self.end_headers()
            self.wfile.write(pieces)
            return
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
        self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def lying(url, lie=None, **how):
    """The URL of an endpoint that lies about the chain at ``url``."""
    endpoint = Endpoint(url, lie, **how)
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    try:
        yield endpoint.url
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        endpoint.behind.close()
