from __future__ import annotations

import pytest

from otelagent.semconv.db import UNKNOWN_SIZE, Peer, Query, redact_message, status_code


def test_a_query_is_named_by_its_summary() -> None:
    query = Query(Peer("postgresql", "shop", "db.example", 6432), "SELECT a FROM t WHERE b = 'secret'")
    assert query.name == "SELECT t"
    assert query.kind == "client"
    assert query.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "server.address": "db.example",
        "server.port": 6432,
        "db.query.text": "SELECT a FROM t WHERE b = ?",
        "db.query.summary": "SELECT t",
        "db.operation.name": "SELECT",
        "db.collection.name": "t",
    }


def test_a_default_port_and_a_port_without_address_are_left_out() -> None:
    assert "server.port" not in Query(Peer("postgresql", address="a", port=5432)).attributes
    assert "server.port" not in Query(Peer("postgresql", port=6432)).attributes


def test_without_a_summary_the_name_is_what_is_known() -> None:
    peer = Peer("mongodb", "shop", "db.example")
    assert Query(peer, operation="find", collection="users").name == "find users"
    assert Query(peer, operation="ping").name == "ping shop"
    assert Query(peer).name == "shop"
    assert Query(Peer("mongodb", address="a", port=1)).name == "a:1"
    assert Query(Peer("mongodb")).name == "mongodb"


def test_a_procedure_is_named_by_its_call() -> None:
    query = Query(Peer("mysql"), procedure="do_it", operation="CALL")
    assert query.name == "CALL do_it"
    assert query.attributes["db.stored_procedure.name"] == "do_it"
    assert "db.query.text" not in query.attributes


@pytest.mark.parametrize(("size", "recorded"), [(0, 0), (1, None), (2, 2), (UNKNOWN_SIZE, None)])
def test_a_batch_of_one_is_no_batch(size: int, recorded: int | None) -> None:
    query = Query(Peer("sqlite"), "INSERT INTO t VALUES (?)", batch=size)
    assert query.attributes.get("db.operation.batch.size") == recorded
    prefix = "" if size == 1 else "BATCH "
    assert query.name == query.attributes["db.query.summary"] == f"{prefix}INSERT t"
    assert query.attributes["db.operation.name"] == f"{prefix}INSERT"


class _Error(Exception):
    def __init__(self, *args: object, **attributes: object) -> None:
        super().__init__(*args)
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("system", "error", "code"),
    [
        ("sqlite", _Error(sqlite_errorname="SQLITE_BUSY", sqlite_errorcode=5), "SQLITE_BUSY"),
        ("postgresql", _Error(sqlstate="23505"), "23505"),
        ("postgresql", _Error(pgcode="42P01"), "42P01"),
        ("postgresql", _Error(pgcode=None), None),
        ("mysql", _Error(1062, "Duplicate entry"), "1062"),
        ("mysql", _Error(errno=1064, sqlstate="42000"), "1064"),
        ("mysql", OSError(111, "refused"), None),
        ("mysql", _Error("x"), None),
    ],
)
def test_the_status_code_is_the_database_own(system: str, error: Exception, code: str | None) -> None:
    assert status_code(error, system) == code


@pytest.mark.parametrize(
    ("message", "redacted"),
    [
        ("no such table: users", "no such table: users"),
        ("UNIQUE constraint failed: users.email", "UNIQUE constraint failed: users.email"),
        ('near "FORM": syntax error', 'near "FORM": syntax error'),
        ('unrecognized token: "\'hunter2"', 'unrecognized token: "?"'),
        ('column "emial" does not exist', 'column "?" does not exist'),
        ("Duplicate entry 'a@b.c' for key 'users'", "Duplicate entry '?' for key 'users'"),
        ("DETAIL:  Key (email)=(a@b.c) already exists.", "DETAIL:  Key (email)=(?) already exists."),
        ("DETAIL:  Failing row contains (1, a@b.c).", "DETAIL:  Failing row contains (?)."),
        ("DETAIL:  Failing row contains (1, a@b.c, and so o", "DETAIL:  Failing row contains (?)"),
        ("syntax error\nLINE 1: SELECT 'a@b.c\n               ^", "syntax error\nLINE 1: ?"),
    ],
)
def test_what_a_database_quotes_stays_only_if_it_is_in_the_statement(message: str, redacted: str) -> None:
    assert redact_message(message, "SELECT email FORM users WHERE email = ?") == redacted
