"""A server that misbehaves by script, in a process of its own: `python fault_server.py http|grpc PORT [OPTION …]`.

Protocol: each line on standard input is a script, a JSON list of actions, one per request; the last one repeats, until
the next line. The first line on standard output is the port; then comes a JSON line per request, and one with `gone_s`
when a client leaves before it has its answer. It ends with its standard input.

An action with `accepts`, a list of `Authorization` values, is for requests that have one of them; all others get its
`otherwise`.

An action with `path` is for requests (HTTP) to that path; all others get its `otherwise`, too.

An action with `keep`, a directory, writes the request's body there, as a file.

With the option `tls=CERTIFICATE,KEY[,AUTHORITY]` it speaks TLS, and with an authority, asks clients for a certificate,
whose common name is the `client` of a request.

With `spans`, the line of a request has the ids of the spans in it, and of those that the server takes: all if the
action says `takes`, but for the first `refuses` of them.
"""

from __future__ import annotations

import gzip
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

SERVICES = (
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
)
METHOD = "Export"


class Script:
    """Hands out the actions and tells of the requests, one at a time."""

    def __init__(self, actions: list[dict[str, Any]], tell_spans: bool = False) -> None:
        self._tell_spans = tell_spans
        self._lock = threading.Lock()
        self.begin(actions)

    def begin(self, actions: list[dict[str, Any]]) -> None:
        with self._lock:
            self._actions = actions
            self._next = 0

    def take(self, body: bytes, headers: dict[str, str], **request: object) -> dict[str, Any]:
        at = time.monotonic()
        spans = span_ids(body, headers.get("content-encoding", "")) if self._tell_spans else None
        with self._lock:
            action = self._actions[min(self._next, len(self._actions) - 1)]
            self._next += 1
            if len(body) > action.get("max_bytes", len(body)):
                action = action["larger"]
            if "accepts" in action and headers.get("authorization") not in action["accepts"]:
                action = action["otherwise"]
            if "path" in action and request.get("path") != action["path"]:
                action = action["otherwise"]
            if "keep" in action:
                (Path(action["keep"]) / f"{self._next:06}").write_bytes(body)
            if not action.get("quiet"):
                told = {"at": at, "headers": headers, **request, "bytes": len(body), "body": body[:1000].hex()}
                if spans is not None:
                    told |= {"spans": spans, "taken": spans[action.get("refuses", 0) :] if "takes" in action else []}
                print(json.dumps(told), flush=True)
        return action

    def gone(self, after_s: float) -> None:
        with self._lock:
            print(json.dumps({"gone_s": after_s}), flush=True)


def span_ids(body: bytes, encoding: str) -> list[str]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if encoding == "gzip" else body)
    scopes = (scope for resource in request.resource_spans for scope in resource.scope_spans)
    return [span.span_id.hex() for scope in scopes for span in scope.spans]


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_request(connection: socket.socket) -> tuple[str, dict[str, str], bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    top, _, begun = data.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = bytearray(begun)
    while len(body) < int(headers.get("content-length", "0")):
        chunk = connection.recv(1024 * 1024)
        if not chunk:
            return None
        body += chunk
    return first.split(" ")[1], headers, bytes(body)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def pour(connection: socket.socket, data: bytes, times: int, pause_s: float = 0.0) -> None:
    for _ in range(times):
        connection.sendall(data)
        if pause_s:
            wait(connection, pause_s)


def wait(connection: socket.socket, seconds: float) -> None:
    """Waits, unless the client leaves, which raises."""
    if select.select([connection], [], [], seconds)[0] and not connection.recv(65536):
        raise ConnectionError("the client is gone")


def act(connection: socket.socket, action: dict[str, Any]) -> None:
    """Answers one request."""
    kind = action.get("do", "respond")
    pause_s = action.get("pause_s", 0.05)
    protobuf = {"content-type": "application/x-protobuf"}
    if kind == "respond":
        body = bytes.fromhex(action.get("body", ""))
        time.sleep(action.get("delay_s", 0.0))
        headers = {**protobuf, **action.get("headers", {}), "content-length": str(len(body))}
        connection.sendall(head(action["status"], headers) + body)
    elif kind == "stall":
        wait(connection, 60)
    elif kind == "drip":
        connection.sendall(head(action.get("status", 200), {**protobuf, "content-length": "1000"}))
        pour(connection, b"\0", 1000, pause_s)
    elif kind == "drip_head":
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        pour(connection, b"x", 1000, pause_s)
    elif kind == "reset":
        reset(connection)
    elif kind == "reset_in_body":
        connection.sendall(head(200, {**protobuf, "content-length": "1000"}) + b"\0" * 10)
        time.sleep(0.05)
        reset(connection)
    elif kind == "endless":
        connection.sendall(head(200, {**protobuf, "transfer-encoding": "chunked"}))
        pour(connection, b"10000\r\n" + b"\0" * 65536 + b"\r\n", action.get("times", 100_000))
    elif kind == "bomb":
        body = gzip.compress(b"\0" * action["bytes"])
        connection.sendall(head(200, {**protobuf, "content-encoding": "gzip", "content-length": str(len(body))}) + body)
    elif kind == "endless_after_gzip":
        connection.sendall(head(200, {**protobuf, "content-encoding": "gzip", "transfer-encoding": "chunked"}))
        if empty := gzip.compress(b""):
            connection.sendall(b"%x\r\n%s\r\n" % (len(empty), empty))
        pour(connection, b"10000\r\n" + b"\0" * 65536 + b"\r\n", action.get("times", 100_000))
    elif kind == "raw":
        connection.sendall(bytes.fromhex(action["bytes"]))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    else:
        raise ValueError(kind)


def serve_connection(
    connection: socket.socket, peer: tuple[str, int], script: Script, tls: ssl.SSLContext | None
) -> None:
    try:
        about: dict[str, object] = {"peer": peer[1]}
        if tls is not None:
            connection = secured = tls.wrap_socket(connection, server_side=True)
            subject: Any = (secured.getpeercert() or {}).get("subject", ())
            about["client"] = next((value for ((name, value),) in subject if name == "commonName"), None)
        while request := read_request(connection):
            path, headers, body = request
            action = script.take(path=path, headers=headers, body=body, **about)
            begun = time.monotonic()
            try:
                act(connection, action)
            except OSError:
                script.gone(time.monotonic() - begun)
                raise
    except OSError:
        pass
    finally:
        connection.close()


def serve_http(script: Script, wanted_port: int, tls: list[str]) -> int:
    listener = socket.create_server(("127.0.0.1", wanted_port))
    context: ssl.SSLContext | None = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls[:2])
        for authority in tls[2:]:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority)

    def accept() -> None:
        while True:
            connection, peer = listener.accept()
            threading.Thread(target=serve_connection, args=(connection, peer, script, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def serve_grpc(script: Script, wanted_port: int, tls: list[str]) -> int:
    import grpc

    def read(path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def export(request: bytes, context: Any) -> bytes:
        metadata = {item.key: item.value for item in context.invocation_metadata() if isinstance(item.value, str)}
        names = context.auth_context().get("x509_common_name", ()) if tls else ()
        about = {"client": next((name.decode() for name in names), None)} if tls else {}
        action = script.take(body=request, headers=metadata, peer=context.peer(), **about)
        begun = time.monotonic()
        if "delay_s" in action:
            left = threading.Event()
            context.add_callback(left.set)
            if left.wait(action["delay_s"]):
                script.gone(time.monotonic() - begun)
        if "code" in action:
            details = bytes.fromhex(action.get("status_details", ""))
            context.set_trailing_metadata((("grpc-status-details-bin", details),) if details else ())
            context.abort(grpc.StatusCode[action["code"]], action.get("details", "scripted"))
        return bytes.fromhex(action.get("body", ""))

    handlers: dict[str, Any] = {METHOD: grpc.unary_unary_rpc_method_handler(export, None, None)}
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(service, handlers) for service in SERVICES)
    )
    address = f"127.0.0.1:{wanted_port}"
    if tls:
        authority = read(tls[2]) if len(tls) > 2 else None
        credentials = grpc.ssl_server_credentials(
            [(read(tls[1]), read(tls[0]))], authority, require_client_auth=authority is not None
        )
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    _keep.append(server)
    return port


_keep: list[object] = []


def main() -> None:
    protocol, port, *options = sys.argv[1:]
    script = Script(json.loads(sys.stdin.readline()), "spans" in options)
    tls = [path for option in options if option.startswith("tls=") for path in option[4:].split(",")]
    serve = serve_http if protocol == "http" else serve_grpc
    print(serve(script, int(port), tls), flush=True)
    for line in sys.stdin:
        script.begin(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
