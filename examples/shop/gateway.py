"""The shop's gateway: what a browser talks to. FastAPI in front of the inventory.

Run it with `uvicorn gateway:app` or `python gateway.py`. The environment says where: PORT (8000), INVENTORY_URL
(http://127.0.0.1:8001).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import requests
import uvicorn
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, PositiveInt

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
log = logging.getLogger("gateway")

INVENTORY_URL = os.environ.get("INVENTORY_URL", "http://127.0.0.1:8001")
TIMEOUT_S = 10

mail_room = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mail-room")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=INVENTORY_URL, timeout=TIMEOUT_S) as client:
        app.state.inventory = client
        yield
    mail_room.shutdown()


app = FastAPI(title="Shop", lifespan=lifespan)


class Order(BaseModel):
    sku: str
    quantity: PositiveInt = 1


@app.get("/health")
async def health() -> str:
    return "ok"


@app.get("/products")
async def products() -> Any:
    return await ask_inventory("/products")


@app.get("/prices")
async def prices() -> Any:
    return await ask_inventory("/prices")


@app.get("/products/{sku}")
async def product(sku: str) -> Any:
    return await ask_inventory(f"/products/{sku}")


@app.get("/basket")
async def basket(sku: Annotated[list[str], Query()]) -> Any:
    """Several products at once, asked for at the same time."""
    return await asyncio.gather(*(ask_inventory(f"/products/{one}") for one in sku))


@app.post("/orders", status_code=201)
def order(wanted: Order) -> Any:
    """A plain function, so FastAPI runs it in its thread pool."""
    product = answer_of(requests.get(f"{INVENTORY_URL}/products/{wanted.sku}", timeout=TIMEOUT_S))
    place = f"{INVENTORY_URL}/products/{wanted.sku}/reservations"
    reserved = answer_of(requests.post(place, json={"quantity": wanted.quantity}, timeout=TIMEOUT_S))
    mail_room.submit(send_receipt, wanted)
    return {"reservation": reserved["reservation"], "product": product["name"]}


@app.get("/report")
def report() -> Any:
    return answer_of(requests.get(f"{INVENTORY_URL}/reports/stock", timeout=TIMEOUT_S))


def send_receipt(wanted: Order) -> None:
    """After the customer has been answered: nobody waits for a receipt."""
    product = requests.get(f"{INVENTORY_URL}/products/{wanted.sku}", timeout=TIMEOUT_S).json()
    log.info("receipt: %d of %s at %s; %s left", wanted.quantity, wanted.sku, product["price"], product["stock"])


async def ask_inventory(path: str) -> Any:
    try:
        return answer_of(await app.state.inventory.get(path))
    except httpx.TransportError as error:
        log.warning("inventory unreachable: %s", error)
        raise HTTPException(502, "the inventory is unreachable") from error


def answer_of(response: httpx.Response | requests.Response) -> Any:
    """The inventory's answer, or what the customer is to be told instead."""
    if response.status_code == 404:
        raise HTTPException(404, "no such product")
    if response.status_code == 409:
        raise HTTPException(409, "sold out")
    if response.status_code >= 400:
        log.error("inventory answered %d for %s", response.status_code, response.url)
        raise HTTPException(502, "the inventory is in trouble")
    return response.json()


def main() -> None:
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
