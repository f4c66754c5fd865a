"""The whole agent with credentials, in processes of its own, with each engine: nothing lost, and no secret anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import support
from tests.delivery.harness import FaultServer, TokenServer

SECRET = "client-s3cret"

PROGRAM = """
import json, logging, os, sys
import otelagent, httpx, requests, urllib3

# Whatever anybody logs is seen here, and would be exported.
logging.basicConfig(level=logging.DEBUG)
otelagent.init(service_name="shop")
with otelagent.span("work"):
    logging.getLogger("shop").info("sold")
delivered = otelagent.flush(20)
running = otelagent.status()
otelagent.shutdown()
print(json.dumps([delivered, running, otelagent.status()]))
"""


@pytest.fixture(params=["sdk", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        support.native_or_skip()
    return str(request.param)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer(secret=SECRET) as server:
        yield server


class Application:
    """One run after another of the same service, whose spool is in one place."""

    def __init__(self, folder: Path, engine: str, **environ: str) -> None:
        self._folder = folder
        self.state = folder / "state"
        self._environ = {
            "OTELAGENT_ENGINE": engine,
            "OTELAGENT_EXPORTER": "otlp",
            "OTELAGENT_LOGS_EXPORTER": "otlp",
            "OTELAGENT_LOGS_LEVEL": "debug",
            "XDG_STATE_HOME": str(self.state),
            **environ,
        }
        self.shown = ""

    def run(self) -> tuple[bool, dict[str, Any], dict[str, Any]]:
        """Whether all was delivered, the status then, and the status at the end."""
        outcome = support.run_program(self._folder, PROGRAM, **self._environ)
        assert outcome.code == 0, outcome.err
        self.shown += outcome.out + outcome.err
        delivered, running, ended = outcome.json
        for signal in ("traces", "logs"):
            assert ended["ledger"][signal]["balanced"]
            # The application's own and nothing of what the agent does for it.
            assert ended["ledger"][signal]["ended"] == 1
        return delivered, running, ended

    def spool(self) -> bytes:
        """All that is on disk, names included."""
        files = [path for path in self.state.rglob("*") if path.is_file()]
        return b"".join(str(path).encode() + path.read_bytes() for path in files)


def quoting(token: str) -> dict[str, Any]:
    body = f"no access for {token}".encode().hex()
    return {"status": 401, "headers": {"content-type": "text/plain"}, "body": body}


def oauth2(server: FaultServer, tokens: TokenServer, **more: str) -> dict[str, str]:
    return {
        "OTELAGENT_ENDPOINT": f"http://127.0.0.1:{server.port}",
        "OTELAGENT_OAUTH2_TOKEN_URL": tokens.url,
        "OTELAGENT_OAUTH2_CLIENT_ID": "shop",
        "OTELAGENT_OAUTH2_CLIENT_SECRET": SECRET,
        **more,
    }


def test_a_secret_is_nowhere_and_what_waits_for_a_token_is_delivered(
    tmp_path: Path, engine: str, tokens: TokenServer
) -> None:
    tokens.begin(secret="another", echo=True)
    with FaultServer("http", {"status": 200}) as server:
        parameters = {"OTELAGENT_OAUTH2_PARAMETERS": "audience=audience-s3cret"}
        application = Application(tmp_path, engine, **oauth2(server, tokens, **parameters))
        delivered, running, ended = application.run()
        assert not delivered
        assert running["delivery"]["traces"]["last_error"]["reason"] == "credentials"
        for signal in ("traces", "logs"):
            assert ended["ledger"][signal]["spooled"] == 1
        assert server.requests == []
        assert b"shop" in application.spool()
        assert b"s3cret" not in application.spool()

        tokens.begin(secret=SECRET)
        delivered, running, ended = application.run()
        assert delivered
        for signal in ("traces", "logs"):
            ledger = ended["ledger"][signal]
            assert ledger["delivered"] + ledger["spooled"] == 2
            assert ledger["adopted"] == 1
        server.stop()
    assert {request["headers"]["authorization"] for request in server.requests} == {"Bearer token-1"}
    settings = {row["name"]: row["value"] for row in running["settings"]}
    assert settings["oauth2_client_secret"] == settings["logs_oauth2_client_secret"] == "***"
    assert settings["oauth2_parameters"] == "audience=***"
    assert "s3cret" not in application.shown
    assert "token-1" not in application.shown
    assert "httpcore" not in application.shown


def test_a_server_that_quotes_a_fetched_token_is_not_quoted(tmp_path: Path, engine: str, tokens: TokenServer) -> None:
    with FaultServer("http", quoting("token-1"), quoting("token-2")) as server:
        environ = oauth2(server, tokens, OTELAGENT_LOGS_EXPORTER="none", OTELAGENT_ENGINE=engine)
        program = """
            import json, otelagent
            otelagent.init()
            with otelagent.span("work"): pass
            otelagent.flush(20)
            print(json.dumps(otelagent.status()))
        """
        outcome = support.run_program(tmp_path, program, OTELAGENT_EXPORTER="otlp", **environ)
        server.stop()
    status = outcome.json
    assert status["ledger"]["traces"]["rejected"] == {"http_401": 1}
    assert status["ledger"]["traces"]["balanced"]
    sent = [request["headers"]["authorization"] for request in server.requests]
    assert sent == ["Bearer token-1", "Bearer token-2"]
    assert status["delivery"]["traces"]["last_error"]["message"] == "no access for ***; check the credentials"
    assert "token-" not in outcome.out + outcome.err


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_token_file_that_comes_later_and_one_for_log_records(tmp_path: Path, engine: str, protocol: str) -> None:
    ok: dict[str, Any] = {"status": 200} if protocol == "http" else {}
    refusal = {"status": 401} if protocol == "http" else {"code": "UNAUTHENTICATED"}
    accepts = {**ok, "accepts": ["Bearer spans-s3cret", "Bearer logs-s3cret"], "otherwise": refusal}
    spans, logs = tmp_path / "spans-token", tmp_path / "logs-token"
    logs.write_text("logs-s3cret")
    with FaultServer(protocol, accepts) as server:
        application = Application(
            tmp_path,
            engine,
            OTELAGENT_ENDPOINT=f"http://127.0.0.1:{server.port}",
            OTELAGENT_PROTOCOL="grpc" if protocol == "grpc" else "http/protobuf",
            OTELAGENT_BEARER_TOKEN_FILE=str(spans),
            OTELAGENT_LOGS_BEARER_TOKEN_FILE=str(logs),
        )
        delivered, running, ended = application.run()
        assert not delivered
        message = running["delivery"]["traces"]["last_error"]["message"]
        assert message == f"{spans}: No such file or directory"
        assert ended["ledger"]["traces"]["spooled"] == 1
        assert ended["ledger"]["logs"]["delivered"] == 1
        spans.write_text("spans-s3cret\n")
        delivered, running, ended = application.run()
        assert delivered
        assert ended["ledger"]["traces"]["adopted"] == 1
        server.stop()
    sent = [request["headers"]["authorization"] for request in server.requests]
    assert sent.count("Bearer logs-s3cret") == 2
    assert set(sent) == {"Bearer spans-s3cret", "Bearer logs-s3cret"}
    assert "s3cret" not in application.shown
    assert b"s3cret" not in application.spool()
