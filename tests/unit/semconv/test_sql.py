from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.semconv import sql
from otelagent.semconv.sql import analyse

SYSTEMS = ("sqlite", "postgresql", "mysql", "microsoft.sql_server", "oracle.db", "something")


@pytest.mark.parametrize(
    ("system", "text", "sanitised"),
    [
        ("sqlite", "SELECT * FROM t WHERE a = 'it''s' AND b = 5", "SELECT * FROM t WHERE a = ? AND b = ?"),
        ("sqlite", "SELECT x'00ff', 0xFF, 1.5e-3, .5, -7, TRUE", "SELECT ?, ?, ?, ?, -?, ?"),
        ("sqlite", "SELECT a FROM t WHERE a LIKE 'x\\' ESCAPE '\\'", "SELECT a FROM t WHERE a LIKE ? ESCAPE ?"),
        ("sqlite", 'SELECT t."a", `b`, [c d] FROM "t"', 'SELECT t."a", `b`, [c d] FROM "t"'),
        ("sqlite", 'SELECT a FROM t WHERE b = "secret"', "SELECT a FROM t WHERE b = ?"),
        ("sqlite", 'SELECT a FROM t WHERE "t"."a" = "u"."b"', 'SELECT a FROM t WHERE "t"."a" = "u"."b"'),
        ("sqlite", 'INSERT INTO t ("a") VALUES ("x"), ("y")', 'INSERT INTO t ("a") VALUES (?), (?)'),
        ("sqlite", "PRAGMA key = hunter2", "PRAGMA key ?"),
        ("sqlite", "SELECT ?, ?1, :a, @b, $c", "SELECT ?, ?1, :a, @b, $c"),
        ("postgresql", "SELECT %s, %(a)s, $1::int", "SELECT %s, %(a)s, $1::int"),
        ("postgresql", r"SELECT E'it\'s' , U&'x', B'01'", "SELECT ? , ?, ?"),
        ("postgresql", "SELECT $$it's$$, $a$ $$ $a$ FROM t", "SELECT ?, ? FROM t"),
        ("postgresql", "SELECT 1 /* a /* b */ 'secret' */ + 2 -- it's", "SELECT ? + ?"),
        ("postgresql", 'SELECT a FROM t WHERE a = "b"', 'SELECT a FROM t WHERE a = "b"'),
        ("mysql", r"""SELECT a FROM t WHERE a = "x\"s" AND b = 'x\'s' #""", "SELECT a FROM t WHERE a = ? AND b = ?"),
        ("mysql", "SELECT `a``b` FROM t", "SELECT `a``b` FROM t"),
        ("sqlite", "SELECT a FROM t WHERE b IN (1, 'x', ?, -2)", "SELECT a FROM t WHERE b IN (?)"),
        ("postgresql", "SELECT a FROM t WHERE b IN (%s, %s)", "SELECT a FROM t WHERE b IN (?)"),
        ("sqlite", "SELECT a FROM t WHERE b IN (SELECT 1 FROM u)", "SELECT a FROM t WHERE b IN (SELECT ? FROM u)"),
        ("sqlite", "SELECT a1, t2.b3\n\n  FROM   t2", "SELECT a1, t2.b3 FROM t2"),
        ("sqlite", "SELECT a FROM t WHERE d > DATE '2020-01-01'", "SELECT a FROM t WHERE d > DATE ?"),
    ],
)
def test_literals_and_comments_go_and_names_and_parameters_stay(system: str, text: str, sanitised: str) -> None:
    assert analyse(text, system).text == sanitised


@pytest.mark.parametrize(
    "text",
    [
        'SELECT "secret"',
        'SELECT lower("secret")',
        'SELECT * FROM t WHERE x = ("secret")',
        'SELECT * FROM t WHERE name IS "secret"',
        'SELECT * FROM t WHERE a = 1 AND "secret" = b',
        'SELECT coalesce("secret", 1) FROM t',
        'SELECT CASE WHEN a THEN "secret" ELSE "secret" END FROM t',
        'SELECT trim(x FROM "secret") FROM t',
        'SELECT a IS DISTINCT FROM "secret" FROM t',
        'SELECT * FROM f("secret")',
        'SELECT * FROM (VALUES ("secret"), ("secret"))',
        'SELECT a FROM t ORDER BY a LIMIT 1, "secret"',
        'VALUES (lower("secret"))',
        'INSERT INTO VALUES ("secret")',
        'INSERT INTO t VALUES (1, lower("secret")), ("secret")',
        'INSERT INTO t SELECT "secret", 1',
        'INSERT INTO t SELECT * FROM f("secret", "secret")',
        'UPDATE t SET a = coalesce("secret", 1), b = f(1, "secret" = 2)',
        'CREATE TABLE t ("a" text DEFAULT "secret" CHECK ("a" <> "secret"))',
        'CREATE TABLE t AS SELECT "secret"',
        'ATTACH "secret.db" AS x',
    ],
)
@pytest.mark.parametrize("system", ["sqlite", "mysql", "something"])
def test_a_double_quoted_literal_is_one_wherever_it_stands(system: str, text: str) -> None:
    statement = analyse(text, system)
    assert "secret" not in statement.text
    assert "secret" not in statement.summary


@pytest.mark.parametrize(
    ("text", "sanitised"),
    [
        ('SELECT "t"."a" AS "b" FROM "t" JOIN "u" ON "t"."a" = "u"."b"', None),
        ('SELECT a FROM "t", "u"', None),
        ('INSERT INTO "t" ("a", "b") VALUES ("x", 1)', 'INSERT INTO "t" ("a", "b") VALUES (?, ?)'),
        ('UPDATE "t" SET "a" = 1, "b" = "x" WHERE "t"."a" = 2', 'UPDATE "t" SET "a" = ?, "b" = ? WHERE "t"."a" = ?'),
        ('DELETE FROM "t" WHERE "t"."a" = 1', 'DELETE FROM "t" WHERE "t"."a" = ?'),
        ('CREATE TABLE IF NOT EXISTS "t" ("a" int, "b" text REFERENCES "u")', None),
        ('ALTER TABLE "t" ADD COLUMN "a" text', None),
        ('DROP TABLE IF EXISTS "t"', None),
    ],
)
@pytest.mark.parametrize("system", ["sqlite", "something"])
def test_a_double_quoted_name_stays_where_only_a_name_may_stand(system: str, text: str, sanitised: str | None) -> None:
    assert analyse(text, system).text == (sanitised or text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM t WHERE b = 'secret",
        "SELECT a FROM t WHERE b = 'it's secret'",
        "SELECT a FROM t WHERE b = 'it ' secret'",
        "SELECT a FROM t WHERE b = 'x' AND \"secret",
        "SELECT a FROM t WHERE b = $x$ secret",
        "SELECT a FROM t WHERE b = E'\\' secret",
        "SELECT a FROM t WHERE b = q'[it's secret]'",
        "SELECT a FROM t /* secret",
        "SELECT a FROM t WHERE b = 'x\\' secret'",
    ],
)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_malformed_statement_gives_less_rather_than_a_literal(system: str, text: str) -> None:
    statement = analyse(text, system)
    assert "secret" not in statement.text
    assert "secret" not in statement.summary


@pytest.mark.parametrize(
    ("text", "summary", "operation", "collection"),
    [
        ("SELECT *\nFROM wuser_table\nWHERE username = ?", "SELECT wuser_table", "SELECT", "wuser_table"),
        ("INSERT INTO shipping (a, b) SELECT a, b FROM orders", "INSERT shipping SELECT orders", "INSERT", None),
        ("SELECT * FROM songs, artists WHERE songs.a == artists.id", "SELECT songs artists", "SELECT", None),
        (
            "SELECT d FROM (SELECT * FROM orders o JOIN customers c ON o.c = c.c)",
            "SELECT SELECT orders customers",
            "SELECT",
            None,
        ),
        ("SELECT * FROM \"song list\", 'artists'", 'SELECT "song list"', "SELECT", None),
        (
            "with a(n) as (select 1 from t), b as (select 2) select * from a join b join u",
            "SELECT t SELECT SELECT u",
            "SELECT",
            None,
        ),
        ("WITH a AS (SELECT 1) UPDATE t SET x = 1", "SELECT UPDATE t", "UPDATE", None),
        ("update or ignore t set a = 1", "UPDATE t", "UPDATE", "t"),
        ("DELETE FROM public.t WHERE a IS DISTINCT FROM b", "DELETE public.t", "DELETE", "public.t"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2", "INSERT t", "INSERT", "t"),
        ("REPLACE INTO t VALUES (1)", "REPLACE t", "REPLACE", "t"),
        ("SELECT a FROM t FOR UPDATE", "SELECT t", "SELECT", "t"),
        ("SELECT EXTRACT(YEAR FROM d) FROM t", "SELECT t", "SELECT", "t"),
        ("MERGE INTO t USING s ON (a = b) WHEN MATCHED THEN UPDATE SET x = 1", "MERGE t s", "MERGE", None),
        ("SELECT a FROM b JOIN c USING (id)", "SELECT b c", "SELECT", None),
        ("SELECT * FROM generate_series(1, 3)", "SELECT generate_series", "SELECT", None),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE TABLE t", "CREATE", "t"),
        ("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX i", "CREATE", None),
        ("DROP TABLE a, b", "DROP TABLE a b", "DROP", None),
        ("TRUNCATE TABLE t", "TRUNCATE t", "TRUNCATE", "t"),
        ("CALL do_it(5)", "CALL do_it", "CALL", None),
        ("EXPLAIN QUERY PLAN SELECT * FROM t", "EXPLAIN SELECT t", "EXPLAIN", "t"),
        ("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t SELECT u", "SELECT", None),
        ("CREATE TABLE a (b); INSERT INTO a VALUES (1);", "CREATE TABLE a INSERT a", None, None),
        ("SAVEPOINT s1234_x1", "SAVEPOINT", "SAVEPOINT", None),
        ("BEGIN", "BEGIN", "BEGIN", None),
        ("", "", None, None),
        ("-- nothing", "", None, None),
    ],
)
def test_the_summary_lists_operations_and_targets(
    text: str, summary: str, operation: str | None, collection: str | None
) -> None:
    statement = analyse(text, "sqlite")
    assert (statement.summary, statement.operation, statement.collection) == (summary, operation, collection)


def test_a_summary_is_cut_between_names() -> None:
    summary = analyse("SELECT * FROM " + ", ".join(f"table_number_{n}" for n in range(100))).summary
    assert len(summary) <= 255
    assert summary.rpartition(" ")[2] in {f"table_number_{n}" for n in range(100)}


def test_a_long_statement_is_cut_and_marked() -> None:
    statement = analyse("SELECT a FROM t WHERE b = 'x' AND c = '" + "secret " * 2000 + "'", "sqlite")
    assert statement.text == "SELECT a FROM t WHERE b = ? AND c = ?..."
    assert statement.summary == "SELECT t"


def test_statements_are_remembered_but_not_long_ones() -> None:
    text = "SELECT 1 -- remembered"
    assert analyse(text, "sqlite") is analyse(text, "sqlite")
    before = sql._cached.cache_info().currsize
    analyse(text + "x" * 5000, "sqlite")
    assert sql._cached.cache_info().currsize == before


_PIECES = st.sampled_from(
    [
        *("SELECT", "FROM", "IN", "VALUES", "WITH", "AS", "(", ")", ",", ".", ";", "'", "''", '"', "`", "[", "]", "\\"),
        *("$", "$a$", "--", "/*", "*/", "\n", " ", "t", "E'", "x'", "1", "1e", "+", "%(", "%s", ":", "?", "#", "é"),
    ]
)


@given(st.lists(_PIECES, max_size=60).map("".join) | st.text(max_size=200), st.sampled_from(SYSTEMS))
def test_no_text_makes_it_fail(text: str, system: str) -> None:
    statement = analyse(text, system)
    assert len(statement.summary) <= 255
    assert analyse(text, system) == statement


@given(st.text(max_size=60), st.sampled_from(SYSTEMS))
def test_a_well_formed_string_never_shows(value: str, system: str) -> None:
    literal = "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    text = analyse(f"SELECT a FROM t WHERE b = {literal}", system).text
    assert text == "SELECT a FROM t WHERE b = ?"


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    "piece",
    ["(", "'", "$a$", "/*", "[a", "IN(", "a.", "%(", '"', "e'\\", "from a,", "1.", "IN(1,", "$", "`", "/**/", "''"],
)
def test_hostile_text_takes_no_longer_than_any_other(piece: str, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MAX_QUERY_LENGTH", 400_000)

    def took(length: int) -> float:
        text = piece * (length // len(piece))
        best = 9.0
        for _ in range(2):
            start = time.thread_time()  # not what other processes take from this one
            analyse(text, system)
            best = min(best, time.thread_time() - start)
        return best

    gc.disable()  # its passes grow with everything else that the test run holds
    try:
        # Quadratic work would make eight times the text take sixty-four times as long.
        assert took(32_000) < 30 * took(4_000) + 0.01
    finally:
        gc.enable()
