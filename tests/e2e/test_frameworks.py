"""Applications started as their framework's documentation says, unchanged: one SERVER span for each request."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import dataclass

import pytest

import backends
from tests.e2e.harness import Application, Bench, servers
from tests.e2e.web import Client

FLASK = """
from flask import Flask

app = Flask(__name__)

@app.get("/items/<int:item>")
def item(item):
    return {"item": item}

@app.get("/broken")
def broken():
    raise RuntimeError("broken on purpose")
"""

FASTAPI = """
from fastapi import FastAPI

app = FastAPI()

@app.get("/items/{item}")
async def item(item: int):
    return {"item": item}

@app.get("/broken")
async def broken():
    raise RuntimeError("broken on purpose")
"""

STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

async def item(request):
    return JSONResponse({"item": request.path_params["item"]})

async def broken(request):
    raise RuntimeError("broken on purpose")

app = Starlette(routes=[Mount("/items", routes=[Route("/{item:int}", item)]), Route("/broken", broken)])
"""

ASGI = """
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/broken":
        raise RuntimeError("broken on purpose")
    item = scope["path"].rpartition("/")[2]
    status = 200 if item.isdigit() else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    if status == 200:
        await send({"type": "http.response.body", "body": json.dumps({"item": int(item)}).encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""

WSGIREF = """
import json
import sys
from wsgiref.simple_server import make_server

def app(environ, start_response):
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("broken on purpose")
    item = environ["PATH_INFO"].rpartition("/")[2]
    start_response("200 OK" if item.isdigit() else "404 Not Found", [("Content-Type", "application/json")])
    return [json.dumps({"item": int(item)}).encode() if item.isdigit() else b""]

if __name__ == "__main__":
    with make_server("127.0.0.1", int(sys.argv[1]), app) as server:
        server.serve_forever()
"""

# The command's span is current for as long as the server runs.
CLICK = """
import click
import uvicorn

import otelagent

@click.group()
def cli():
    pass

@cli.command()
@click.option("--port", type=int, required=True)
@otelagent.instrument("serve command")
def serve(port):
    uvicorn.run("app:app", port=port)

if __name__ == "__main__":
    cli()
"""

ASGI_ROUTELESS: dict[str, tuple[str, str | None]] = {
    "/items/1": ("GET", None),
    "/nothing": ("GET", None),
    "/broken": ("GET", None),
}


def routes(template: str) -> dict[str, tuple[str, str | None]]:
    return {
        "/items/1": (f"GET {template}", template),
        "/nothing": ("GET", None),
        "/broken": ("GET /broken", "/broken"),
    }


@dataclass(frozen=True)
class Start:
    """A documented way to start.

    :ivar command: `{port}` stands for the port.
    :ivar spans: for each path the name and the route of its SERVER span.
    """

    sources: dict[str, str]
    command: str
    spans: dict[str, tuple[str, str | None]]


STARTS = {
    "flask run": Start({"app.py": FLASK}, "flask run --port {port}", routes("/items/<int:item>")),
    "flask run --debug": Start({"app.py": FLASK}, "flask run --debug --port {port}", routes("/items/<int:item>")),
    "python -m flask": Start(
        {"hello.py": FLASK}, "python -m flask --app hello run -p {port}", routes("/items/<int:item>")
    ),
    "uvicorn fastapi": Start({"main.py": FASTAPI}, "uvicorn main:app --port {port}", routes("/items/{item}")),
    "uvicorn starlette": Start({"main.py": STARLETTE}, "uvicorn main:app --port {port}", routes("/items/{item}")),
    "uvicorn asgi": Start({"main.py": ASGI}, "uvicorn main:app --port {port}", ASGI_ROUTELESS),
    "wsgiref": Start({"main.py": WSGIREF}, "python main.py {port}", ASGI_ROUTELESS),
}


def visit(bench: Bench, start: Start, *, run: bool) -> tuple[list[tuple[int, bytes]], Client, int]:
    """Starts, asks for each page, ends by Ctrl-C; what came back, and the exit code."""
    for name, source in start.sources.items():
        bench.write(name, source)
    port = bench.port()
    application = bench.start(*start.command.format(port=port).split(), run=run, books=run, port=port)
    client = Client(port)
    answers = [(answer.status, answer.body) for answer in map(client.get, start.spans)]
    return answers, client, application.end(signal.SIGINT, group=True)


@pytest.mark.parametrize("name", STARTS)
def test_documented_start_gives_one_server_span_a_request(name: str, bench: Bench) -> None:
    start = STARTS[name]
    plain, _, code = visit(bench, start, run=False)
    assert [status for status, _ in plain] == [200, 404, 500]
    traced, client, traced_code = visit(bench, start, run=True)
    if "--debug" in start.command:  # its page shows the stack, which has a frame of ours
        plain[2], traced[2] = (500, b""), (traced[2][0], b"")
    assert (traced, traced_code) == (plain, code)

    spans = bench.settle()
    found = servers(spans, client)
    assert len(spans) == len(found), "nothing but SERVER spans"
    named = [found[answer.trace_id] for answer in client.answered]
    assert [(span.name, span.attributes.get("http.route")) for span in named] == list(start.spans.values())
    assert [span.status for span in named] == ["unset", "unset", "error"]
    assert named[2].attributes["error.type"] == "RuntimeError"
    assert [event.attributes["exception.message"] for event in named[2].events] == ["broken on purpose"]


def test_command_that_serves_is_not_the_parent_of_requests(bench: Bench) -> None:
    bench.write("app.py", FASTAPI)
    bench.write("manage.py", CLICK)
    port = bench.port()
    application = bench.start("python", "manage.py", "serve", "--port", str(port), port=port)
    client = Client(port)
    client.get("/items/1")
    client.request("GET", "/items/2", headers={"traceparent": "garbage"})
    application.end(signal.SIGINT, group=True)
    spans = bench.settle()
    command = next(span for span in spans if span.name == "serve command")
    requests = [span for span in spans if span.kind == "server"]
    assert len(spans) == len(requests) + 1 == 3
    assert [span.parent_id for span in requests] == [client.answered[0].parent_id, ""]
    assert command.trace_id not in {span.trace_id for span in requests}


# --- Django ---------------------------------------------------------------------------------------------------------

OLD_NAMES = (
    "http.method",
    "http.status_code",
    "http.url",
    "http.target",
    "http.scheme",
    "net.host.name",
    "net.peer.ip",
)

DJANGO_VIEWS = """
from django.http import JsonResponse
from django.urls import include

def item(request, item):
    return JsonResponse({"item": item})

def broken(request):
    raise RuntimeError("broken on purpose")

urlpatterns += [path("shop/", include([path("items/<int:item>", item)])), path("broken", broken)]
"""


def django(bench: Bench, *options: str, run: bool) -> tuple[Application, Client]:
    port = bench.port()
    if not (bench.directory / "manage.py").exists():
        code, output = bench.run("django-admin", "startproject", "website", ".", run=False, books=False)
        assert code == 0, output
        with (bench.directory / "website" / "urls.py").open("a") as urls:
            urls.write(DJANGO_VIEWS)
    command = ("python", "manage.py", "runserver", f"127.0.0.1:{port}", *options)
    return bench.start(*command, run=run, books=run, port=port), Client(port)


@pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reload", "noreload"])
def test_django_project_as_startproject_makes_it(options: tuple[str, ...], bench: Bench) -> None:
    paths = ["/admin/login/", "/shop/items/7", "/nothing", "/broken"]
    plain, client = django(bench, *options, run=False)
    untraced = [(answer.status, answer.headers.get("content-type")) for answer in map(client.get, paths)]
    code = plain.end(signal.SIGINT, group=True)
    assert [status for status, _ in untraced] == [200, 200, 404, 500]

    traced, client = django(bench, *options, run=True)
    assert [(answer.status, answer.headers.get("content-type")) for answer in map(client.get, paths)] == untraced
    # Its threads are daemons: a span that one of them ends while the interpreter is ending would be too late.
    backends.wait_for(lambda: len([span for span in bench.spans() if span.kind == "server"]) >= len(paths), 30)
    assert traced.end(signal.SIGINT, group=True) == code
    spans = bench.settle()
    found = servers(spans, client)
    assert [found[answer.trace_id].status for answer in client.answered] == ["unset", "unset", "unset", "error"]
    # contrib's instrumentation, which is there because it is installed, adds what Django knows below the server's span.
    views = {span.trace_id: span for span in spans if span.scope == "opentelemetry.instrumentation.django"}
    assert len([span for span in spans if span.trace_id in client.sent]) == len(found) + len(views) == 8
    assert {trace_id: view.parent_id for trace_id, view in views.items()} == {
        trace_id: span.span_id for trace_id, span in found.items()
    }
    routes = [views[answer.trace_id].attributes.get("http.route") for answer in client.answered]
    assert routes == ["admin/login/", "shop/items/<int:item>", None, "broken"]
    assert not [name for view in views.values() for name in view.attributes if name in OLD_NAMES]


# --- one application in another -------------------------------------------------------------------------------------

MOUNTED = """
from fastapi import FastAPI
from flask import Flask
{bridge}

flask_app = Flask("legacy")

@flask_app.get("/items/<int:item>")
def item(item):
    return {{"item": item}}

sub = FastAPI()

@sub.get("/orders/{{order}}")
async def order(order: int):
    return {{"order": order}}

app = FastAPI()
app.mount("/sub", sub)
app.mount("/legacy", WSGIMiddleware(flask_app))
"""


@pytest.mark.parametrize("bridge", ["a2wsgi", "starlette.middleware.wsgi"])
def test_mounted_applications_give_one_span_with_the_whole_route(bridge: str, bench: Bench) -> None:
    bench.write("main.py", MOUNTED.format(bridge=f"from {bridge} import WSGIMiddleware"))
    port = bench.port()
    application = bench.start("uvicorn", "main:app", "--port", str(port), port=port)
    client = Client(port)
    assert client.get("/legacy/items/3").json == {"item": 3}
    assert client.get("/sub/orders/4").json == {"order": 4}
    assert client.get("/legacy/nothing").status == 404
    application.end(signal.SIGINT, group=True)
    spans = bench.settle()
    found = servers(spans, client)
    assert len(spans) == 3
    named = [found[answer.trace_id] for answer in client.answered]
    assert [span.attributes.get("http.route") for span in named[:2]] == [
        "/legacy/items/<int:item>",
        "/sub/orders/{order}",
    ]
    assert [span.name for span in named[:2]] == ["GET /legacy/items/<int:item>", "GET /sub/orders/{order}"]


# --- a worker -------------------------------------------------------------------------------------------------------

CELERY = """
from celery import Celery
import otelagent

app = Celery("tasks", broker="filesystem://", backend="file://results")
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
app.conf.broker_connection_retry_on_startup = True

@app.task
def add(x, y):
    with otelagent.span("adding"):
        return x + y
"""

CALLER = """
from tasks import add
print([add.delay(n, n).get(timeout=20) for n in range(3)])
"""


def test_celery_worker_starts_and_its_children_deliver(bench: Bench) -> None:
    pytest.importorskip("celery")
    for folder in ("queue", "control", "results"):
        (bench.directory / folder).mkdir()
    bench.write("tasks.py", CELERY)
    bench.write("caller.py", CALLER)
    worker = bench.start("celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "info")
    worker.wait(lambda: "ready." in worker.output, "the worker")
    code, output = bench.run("python", "caller.py", run=False, books=False)
    assert (code, output.strip()) == (0, "[0, 2, 4]")
    assert worker.end() == 0
    spans = bench.settle()
    assert Counter(span.name for span in spans) == {"adding": 3}
    assert {span.parent_id for span in spans} == {""}
