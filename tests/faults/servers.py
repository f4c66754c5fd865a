"""Faults of programs of many processes: servers that fork, pools, threads."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.delivery.harness import FaultServer
from tests.faults.bench import OK, ROOT, Application, Bench
from tests.faults.disk import DELIVER, DOWN, SETTINGS
from tests.faults.registry import fault
from tests.support import free_port, wait_until

# The servers' own spans are none of those that are counted here.
UNTRACED: dict[str, Any] = {"disabled_instrumentations": ["gunicorn", "uvicorn"]}
REQUESTS = 40
SPANS = 3
BIN = Path(sys.executable).parent

WSGI = f"""
from tests.faults.application import start_worker
agent = start_worker()

def application(environ, start_response):
    agent.spans({SPANS})
    agent.tell()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
ASGI = f"""
from tests.faults.application import start_worker
agent = start_worker()

async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    agent.spans({SPANS})
    agent.tell()
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}})
    await send({{"type": "http.response.body", "body": b"ok"}})
"""
GUNICORN = [
    "-m",
    "gunicorn",
    "served:application",
    "--workers",
    "2",
    "--log-level",
    "error",
    "--graceful-timeout",
    "20",
]
UVICORN = ["--worker-class", "uvicorn_worker.UvicornWorker"]
SERVERS: dict[str, tuple[str, list[str]]] = {
    "gunicorn sync": (WSGI, GUNICORN),
    "gunicorn gthread": (WSGI, [*GUNICORN, "--threads", "2"]),
    "gunicorn gevent": (WSGI, [*GUNICORN, "--worker-class", "gevent"]),
    "gunicorn uvicorn": (ASGI, [*GUNICORN, *UVICORN]),
    "gunicorn --preload": (WSGI, [*GUNICORN, "--preload"]),
}


def answers(port: int) -> bool:
    """Whether something listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def serve(bench: Bench, server: str, to: FaultServer, **settings: Any) -> None:
    """Starts a server, has it answer, and ends it as an operator does."""
    source, options = SERVERS[server]
    (bench.directory / "served.py").write_text(source)
    port = free_port()
    command = [sys.executable, *options, "--chdir", str(bench.directory), "--bind", f"127.0.0.1:{port}"]
    application = bench.command(command, to=to, **UNTRACED, **settings)
    ask(port)
    application.process.send_signal(signal.SIGTERM)
    application.wait(60)
    expect_made(bench, application, REQUESTS * SPANS)


def ask(port: int) -> None:
    """Sends the requests, once somebody listens."""
    wait_until(lambda: answers(port), 60)
    for _ in range(REQUESTS):
        with urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            answer.read()


def made_by(application: Application) -> int:
    """How many spans its processes tell of."""
    application.listen()
    return sum(len(told["made"]) for told in application.told.values())


def expect_made(bench: Bench, application: Application, count: int) -> None:
    """A claim about the bench itself: that everything was done which was asked for."""
    made = made_by(application)
    bench.expect(made == count, f"of {count} spans, its processes tell of {made}: {application.errors[-300:]}")


@fault(28, "prefork servers and pools", cases={name: name for name in SERVERS})
def served(bench: Bench, server: str) -> None:
    serve(bench, server, bench.server(OK))


@fault(28, cases={"uWSGI": None})
def served_by_uwsgi(bench: Bench, _: None) -> None:
    (bench.directory / "served.py").write_text(WSGI)
    port, stats, fifo = free_port(), free_port(), bench.directory / "fifo"
    command = [str(BIN / "uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2"]
    command += [
        "--pythonpath",
        str(bench.directory),
        "--pythonpath",
        str(ROOT),
        "--module",
        "served",
        "--enable-threads",
    ]
    command += ["--stats", f"127.0.0.1:{stats}", "--master-fifo", str(fifo), "--die-on-term", "--disable-logging"]
    application = bench.command(command, to=bench.server(OK), **UNTRACED)
    ask(port)
    # A worker that is busy is ended past every hook.
    wait_until(lambda: idle(stats) == 2)
    fifo.write_text("q")
    application.wait(60)
    expect_made(bench, application, REQUESTS * SPANS)


def idle(stats: int) -> int:
    """How many of uWSGI's workers have no request."""
    with socket.create_connection(("127.0.0.1", stats), timeout=10) as connection:
        told = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    return [worker["status"] for worker in told["workers"]].count("idle")


@fault(28, cases={"gunicorn sync, dead backend": "gunicorn sync"})
def served_without_a_backend(bench: Bench, server: str) -> None:
    to = bench.server(DOWN)
    serve(bench, server, to, **SETTINGS)
    to.begin(OK)
    if bench.otelagent:
        bench.run(DELIVER, to=to, timeout_s=120, **SETTINGS)


POOL = f"""
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

def work(number):
    # Where it is not inherited, a child sets it up as its parent did.
    from tests.faults import application
    agent = application.worker or application.start_worker()
    agent.spans({SPANS})
    agent.tell()
    return number

if __name__ == "__main__":
    from tests.faults import application
    application.start_worker()
    kind, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if kind == "pool":
        with context.Pool(2, maxtasksperchild=1) as pool:
            assert sorted(pool.imap_unordered(work, range({REQUESTS // 4}))) == list(range({REQUESTS // 4}))
            pool.close()
            pool.join()
    else:
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            assert sorted(executor.map(work, range({REQUESTS // 4}))) == list(range({REQUESTS // 4}))
"""
POOLS = {
    f"{kind}, {method}": (kind, method) for kind in ("pool", "executor") for method in ("fork", "spawn", "forkserver")
}


@fault(28, cases=POOLS)
def pooled(bench: Bench, how: tuple[str, str]) -> None:
    script = bench.directory / "pooled.py"
    script.write_text(POOL)
    application = bench.command([sys.executable, str(script), *how], to=bench.server(OK))
    application.wait(90)
    bench.expect(not application.process.returncode, f"ends with {application.process.returncode}")
    expect_made(bench, application, REQUESTS // 4 * SPANS)


CELERY = f"""
from celery import Celery
from tests.faults.application import start_worker
agent = start_worker()
app = Celery("tasks", broker="filesystem://")
folders = dict.fromkeys(("data_folder_in", "data_folder_out", "processed_folder"), "{{folder}}")
app.conf.update(broker_transport_options=folders, task_ignore_result=True, worker_hijack_root_logger=False)

@app.task
def work():
    agent.spans({SPANS})
    agent.tell()
"""
SEND = """
import sys
sys.path.insert(0, {folder!r})
from tasks import agent, work
for _ in range({count}):
    work.delay()
agent.tell()
"""


@fault(28, cases={"Celery": False, "Celery, dead backend": True})
def celery_worker(bench: Bench, dead: bool) -> None:
    folder, count = bench.directory / "queue", REQUESTS // 4
    folder.mkdir()
    (bench.directory / "tasks.py").write_text(CELERY.replace("{folder}", str(folder)))
    to = bench.server(DOWN if dead else OK)
    settings = SETTINGS if dead else {}
    sender = SEND.format(folder=str(bench.directory), count=count)
    bench.command([sys.executable, "-c", sender], to=to, **settings).wait(60)
    options = ["--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "1", "--loglevel", "ERROR"]
    command = [sys.executable, "-m", "celery", "--workdir", str(bench.directory), "-A", "tasks", "worker", *options]
    worker = bench.command(command, to=to, **settings)
    wait_until(lambda: made_by(worker) == count * SPANS, 60)
    worker.process.send_signal(signal.SIGTERM)
    worker.wait(60)
    expect_made(bench, worker, count * SPANS)
    if dead:
        to.begin(OK)
        if bench.otelagent:
            bench.run(DELIVER, to=to, timeout_s=120, **SETTINGS)


THREADS = """
import threading
barrier = threading.Barrier(16)
def work():
    barrier.wait()
    agent.spans(2000)
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
agent.settle(60)
"""


@fault(34, "many threads, exact counts")
def threads(bench: Bench) -> None:
    told = bench.run(THREADS, to=bench.server(OK), timeout_s=120)
    if bench.otelagent:
        ledger = told["ledger"]
        counted = ledger["delivered"] + sum(ledger["dropped"].values())
        bench.expect(ledger["ended"] == 32_000 == counted, f"ended {ledger['ended']}, counted {counted} of 32,000")


GEVENT = """
import sys
if {before}:
    from gevent import monkey; monkey.patch_all()
from tests.faults.application import start
agent = start()
if not {before}:
    from gevent import monkey; monkey.patch_all()
import gevent
jobs = [gevent.spawn(agent.spans, 20) for _ in range(20)]
gevent.joinall(jobs)
agent.flush(20)
agent.end()
"""


@fault(33, "gevent", cases={"patched before": True, "patched after": False})
def greenlets(bench: Bench, before: bool) -> None:
    script = bench.directory / "greenlets.py"
    script.write_text(GEVENT.format(before=before))
    application = bench.command([sys.executable, str(script)], to=bench.server(OK))
    application.wait(60)
    expect_made(bench, application, 400)


LOUD = """
import logging
import httpx, requests, urllib3  # which otelagent instruments
seen = []
class Keep(logging.Handler):
    def emit(self, record): seen.append(record.name.split(".")[0])
logging.getLogger().addHandler(Keep(logging.DEBUG))
logging.getLogger().setLevel(logging.DEBUG)
for _ in range(3):
    agent.spans(200)
    agent.flush(20)
agent.say(exporting=sorted({"httpcore", "httpx", "urllib3", "requests", "grpc"} & set(seen)))
"""


@fault(36, "client libraries traced, root log at DEBUG", cases={"HTTP": "http", "gRPC": "grpc"})
def loud(bench: Bench, protocol: str) -> None:
    server = bench.server(OK, protocol=protocol)
    settings: dict[str, Any] = {"logs_exporter": "file", "logs_file": str(bench.directory / "logs.jsonl")}
    told = bench.run(LOUD, to=server, protocol=protocol, **settings)
    taken = [span for request in server.requests for span in request["taken"]]
    bench.expect(len(taken) == len(told["made"]), f"makes {len(taken) - len(told['made'])} spans of its own")
    bench.expect(not told["exporting"], f"its exports log as {', '.join(told['exporting'])}")
    if bench.otelagent:
        path = bench.directory / "logs.jsonl"
        records = path.read_text() if path.exists() else ""
        bench.expect("httpcore" not in records and "urllib3" not in records, "exports log records of its exports")
