"""A token endpoint (RFC 6749 section 4.4) in a process of its own: `python token_server.py`.

Protocol: each line on standard input are its rules, a JSON object. The first line on standard output is its port; then
comes a JSON line per request, with its fields, how the client has authenticated, and the status of the answer, and one
with `begun` when it has new rules. It ends with its standard input.

Rules: `secret` of the client ``shop``; `method`, ``basic`` or ``post``, the one way it takes (both without);
`lifetime_s` of a token; `answer`, fields instead of the usual ones; `echo`, to quote the secret in an error;
`delay_s`. The tokens are ``token-1``, ``token-2`` and so on.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus

rules: dict[str, Any] = {}
lock = threading.Lock()
given = 0


class TokenEndpoint(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        fields = {name: values[0] for name, values in parse_qs(body, strict_parsing=True).items()}
        method, client, secret = self.client(fields)
        time.sleep(rules.get("delay_s", 0.0))
        status, answer = self.decide(fields, method, client, secret)
        with lock:
            told = {"fields": fields, "method": method, "client": client, "status": status}
            print(json.dumps({**told, "path": self.path, "media": self.headers["content-type"]}), flush=True)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def client(self, fields: dict[str, str]) -> tuple[str, str | None, str | None]:
        scheme, _, credentials = self.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(credentials).decode().partition(":")
            return "basic", unquote_plus(name), unquote_plus(secret)
        return "post", fields.get("client_id"), fields.get("client_secret")

    def decide(
        self, fields: dict[str, str], method: str, client: str | None, secret: str | None
    ) -> tuple[int, dict[str, Any]]:
        global given
        if fields.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        if client != "shop" or secret != rules["secret"] or method != rules.get("method", method):
            told = f"no client with {secret}" if rules.get("echo") else "unknown client"
            return 401, {"error": "invalid_client", "error_description": told}
        with lock:
            given += 1
            token = f"token-{given}"
        answer = {"access_token": token, "token_type": "Bearer"}
        if "lifetime_s" in rules:
            answer["expires_in"] = rules["lifetime_s"]
        return 200, rules.get("answer", answer)

    def log_message(self, *_: object) -> None: ...


def main() -> None:
    rules.update(json.loads(sys.stdin.readline()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenEndpoint)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        new = json.loads(line)
        with lock:
            rules.clear()
            rules.update(new)
            print(json.dumps({"begun": True}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
