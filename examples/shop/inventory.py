"""The shop's inventory: what there is, how much of it, and at what price. Flask over SQLite.

Run it with `flask --app inventory run`, `gunicorn inventory:app` or `python inventory.py`. The environment says where:
PORT (8001), SHOP_DB (shop.db), SHOP_RESTOCK_S (30, seconds between two looks at the shelves).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
log = logging.getLogger("inventory")

DATABASE = os.environ.get("SHOP_DB", "shop.db")
RESTOCK_S = float(os.environ.get("SHOP_RESTOCK_S", "30"))
LOW = 3

PRODUCTS = [
    ("apple", "Apple", "40", 100),
    ("bread", "Bread", "320", 12),
    ("cheese", "Cheese", "790", 5),
    ("dates", "Dates", "450", 30),
    ("eggs", "Eggs", "290", 60),
    ("flour", "Flour", "120", 40),
    ("grapes", "Grapes", "330", 25),
    ("honey", "Honey", "680", 15),
    ("mystery-box", "Mystery box", "ask us", 1),  # whoever entered this one broke it
]

app = Flask(__name__)


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection whose changes are committed at the end, or rolled back when something goes wrong."""
    connection = sqlite3.connect(DATABASE, timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def create_tables() -> None:
    with database() as db:
        db.execute("CREATE TABLE IF NOT EXISTS products (sku TEXT PRIMARY KEY, name TEXT, price TEXT, stock INTEGER)")
        db.execute("CREATE TABLE IF NOT EXISTS reservations (id INTEGER PRIMARY KEY, sku TEXT, quantity INTEGER)")
        db.executemany("INSERT OR IGNORE INTO products VALUES (?, ?, ?, ?)", PRODUCTS)


class Restocker(threading.Thread):
    """Fills the shelves every now and then, in the background."""

    def __init__(self) -> None:
        super().__init__(name="restocker", daemon=True)

    def run(self) -> None:
        while True:
            time.sleep(RESTOCK_S)
            try:
                with database() as db:
                    filled = db.execute("UPDATE products SET stock = stock + 10 WHERE stock < ?", (LOW,)).rowcount
                if filled:
                    log.info("restocked %d products", filled)
            except sqlite3.Error:
                log.exception("could not restock")


def start_restocker(lock: threading.Lock = threading.Lock()) -> None:  # noqa: B008 - one for all calls is the point
    """Once per process, at the first request: a thread started at import would not survive a server's fork."""
    with lock:
        if not any(isinstance(thread, Restocker) for thread in threading.enumerate()):
            Restocker().start()


create_tables()
app.before_request(start_restocker)


@app.get("/health")
def health() -> ResponseReturnValue:
    return "ok\n"


@app.get("/products")
def products() -> ResponseReturnValue:
    with database() as db:
        rows = db.execute("SELECT sku, name, stock FROM products ORDER BY sku").fetchall()
    return jsonify([dict(row) for row in rows])


@app.get("/prices")
def prices() -> ResponseReturnValue:
    """A query for the list, and one for each product on it: few notice while the shop is small."""
    with database() as db:
        skus = [row["sku"] for row in db.execute("SELECT sku FROM products ORDER BY sku").fetchall()]
    log.info("prices of %d products", len(skus))
    return jsonify({sku: find(sku)["price"] for sku in skus})


@app.get("/products/<sku>")
def product(sku: str) -> ResponseReturnValue:
    row = find(sku)
    cents = int(row["price"])
    return jsonify(sku=sku, name=row["name"], stock=row["stock"], price=f"{cents / 100:.2f}")


@app.post("/products/<sku>/reservations")
def reserve(sku: str) -> ResponseReturnValue:
    quantity = int(request.get_json()["quantity"])
    find(sku)
    with database() as db:
        taken = db.execute(
            "UPDATE products SET stock = stock - ? WHERE sku = ? AND stock >= ?", (quantity, sku, quantity)
        ).rowcount
        if not taken:
            abort(409, f"not enough of {sku} left")
        number = db.execute("INSERT INTO reservations (sku, quantity) VALUES (?, ?)", (sku, quantity)).lastrowid
    log.info("reservation %s: %d of %s", number, quantity, sku)
    return jsonify(reservation=number), 201


@app.get("/reports/stock")
def stock_report() -> ResponseReturnValue:
    """Slow in two ways: a query that counts to 300,000, and a printer that takes its time."""
    with database() as db:
        row = db.execute(
            "WITH RECURSIVE days(day) AS (SELECT 1 UNION ALL SELECT day + 1 FROM days WHERE day < 300000) "
            "SELECT (SELECT sum(stock) FROM products) AS items, count(*) AS days FROM days"
        ).fetchone()
    time.sleep(0.6)
    return jsonify(dict(row))


def find(sku: str) -> dict[str, Any]:
    with database() as db:
        row = db.execute("SELECT name, price, stock FROM products WHERE sku = ?", (sku,)).fetchone()
    if row is None:
        abort(404, f"no product is called {sku}")
    return dict(row)


def main() -> None:
    app.run(port=int(os.environ.get("PORT", "8001")))


if __name__ == "__main__":
    main()
