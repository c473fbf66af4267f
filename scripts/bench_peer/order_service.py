"""Orders, as a tutorial on FastAPI would keep them.

Each request asks the auth service about its token, and each order asks the product API about each item, over one
HTTP client. The order is stored by SQLAlchemy, and ``order.created`` is published after the commit. There are no
idempotency keys, outbox, retries or emails.

Settings: ``DATABASE_URL`` (``postgresql+asyncpg://``), ``REDIS_URL``, ``RABBITMQ_URL``, ``AUTH_SERVICE``,
``PRODUCTS_API``, ``ORDERS_PER_MINUTE`` (per user, 60).
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import aio_pika
import httpx
import redis.asyncio as redis
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, Numeric, String, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

QUEUE = "order.created"
ORDERS_PER_MINUTE = int(os.environ.get("ORDERS_PER_MINUTE", "60"))
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=20, max_overflow=20)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The tables of this service."""


class Order(Base):
    """One order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(index=True)
    user_email: Mapped[str] = mapped_column(String(255))
    user_name: Mapped[str] = mapped_column(String(255))
    total_amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    payment_method: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(20), default="pending")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    items: Mapped[list["Item"]] = relationship(back_populates="order", cascade="all, delete-orphan")


class Item(Base):
    """One line of an order."""

    __tablename__ = "order_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    product_id: Mapped[int]
    title: Mapped[str] = mapped_column(String(500))
    quantity: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    total_amt: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    order: Mapped[Order] = relationship(back_populates="items")


class WantedItem(BaseModel):
    """One line of ``POST /api/orders/``."""

    product_id: int
    quantity: int = Field(ge=1)


class WantedOrder(BaseModel):
    """Body of ``POST /api/orders/``."""

    items: list[WantedItem] = Field(min_length=1)
    payment_method: str = "cash_on_delivery"


class ShownItem(BaseModel):
    """A line as the API shows it."""

    model_config = ConfigDict(from_attributes=True)
    product_id: int
    title: str
    quantity: int
    price: Decimal
    total_amt: Decimal


class ShownOrder(BaseModel):
    """An order as the API shows it."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    user_id: int
    total_amount: Decimal
    payment_method: str
    status: str
    created_at: datetime
    items: list[ShownItem]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables and connect at start."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    broker = await aio_pika.connect_robust(os.environ["RABBITMQ_URL"])
    app.state.channel = await broker.channel()
    await app.state.channel.declare_queue(QUEUE, durable=True)
    app.state.redis = redis.from_url(os.environ["REDIS_URL"])
    app.state.http = httpx.AsyncClient(timeout=10)
    yield
    await app.state.http.aclose()
    await app.state.redis.aclose()
    await broker.close()
    await engine.dispose()


app = FastAPI(title="orders", lifespan=lifespan)


async def open_session() -> AsyncIterator[AsyncSession]:
    """Give each request a session of its own."""
    async with sessions() as session:
        yield session


async def find_user(request: Request, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Ask the auth service who sends the request."""
    answer = await request.app.state.http.post(
        f"{os.environ['AUTH_SERVICE']}/verify-token", headers={"Authorization": authorization}
    )
    if answer.status_code != httpx.codes.OK:
        raise HTTPException(401, "Invalid token")
    user: dict[str, Any] = answer.json()
    return user


Session = Annotated[AsyncSession, Depends(open_session)]
User = Annotated[dict[str, Any], Depends(find_user)]


async def limit_orders(request: Request, user: User) -> None:
    """Count the user's orders of this minute in Redis."""
    key = f"orders:{user['id']}"
    count = await request.app.state.redis.incr(key)
    if count == 1:
        await request.app.state.redis.expire(key, 60)
    if count > ORDERS_PER_MINUTE:
        raise HTTPException(429, "Too many orders")


async def find_product(request: Request, product_id: int) -> dict[str, Any]:
    """Ask the product API about one product."""
    answer = await request.app.state.http.get(f"{os.environ['PRODUCTS_API']}/{product_id}")
    if answer.status_code != httpx.codes.OK:
        raise HTTPException(404, f"Product {product_id} not found")
    product: dict[str, Any] = answer.json()["product"]
    return product


@app.post("/api/orders/", response_model=ShownOrder, status_code=201, dependencies=[Depends(limit_orders)])
async def place_order(body: WantedOrder, request: Request, session: Session, user: User) -> Any:
    """Place an order and publish it."""
    items = []
    for wanted in body.items:
        product = await find_product(request, wanted.product_id)
        price = Decimal(str(product["price"]))
        items.append(
            Item(
                product_id=wanted.product_id,
                title=product["title"],
                quantity=wanted.quantity,
                price=price,
                total_amt=price * wanted.quantity,
            )
        )
    order = Order(
        user_id=user["id"],
        user_email=user["email"],
        user_name=user["name"],
        total_amount=sum((item.total_amt for item in items), Decimal(0)),
        payment_method=body.payment_method,
        items=items,
    )
    session.add(order)
    await session.commit()
    await session.refresh(order, ["created_at", "items"])
    await publish(request, order)
    return order


async def publish(request: Request, order: Order) -> None:
    """Send ``order.created`` to its queue, and wait for the confirmation."""
    event = {
        "order_number": order.id,
        "user_email": order.user_email,
        "user_name": order.user_name,
        "total_amount": float(order.total_amount),
        "payment_method": order.payment_method,
        "items": [
            {
                "product_id": item.product_id,
                "quantity": item.quantity,
                "price": float(item.price),
                "total_amt": float(item.total_amt),
            }
            for item in order.items
        ],
    }
    message = aio_pika.Message(
        json.dumps(event).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await request.app.state.channel.default_exchange.publish(message, routing_key=QUEUE)


@app.get("/api/orders/{order_id}", response_model=ShownOrder)
async def read_order(order_id: int, session: Session, user: User) -> Any:
    """Return one order of the user."""
    order = await session.scalar(
        select(Order).options(selectinload(Order.items)).where(Order.id == order_id, Order.user_id == user["id"])
    )
    if not order:
        raise HTTPException(404, "Order not found")
    return order


@app.get("/api/orders/", response_model=list[ShownOrder])
async def list_orders(
    session: Session, user: User, status: str | None = None, skip: int = 0, limit: int = 20
) -> Any:
    """Return the newest orders of the user."""
    orders = select(Order).options(selectinload(Order.items)).where(Order.user_id == user["id"])
    if status:
        orders = orders.where(Order.status == status)
    rows = await session.scalars(orders.order_by(Order.id.desc()).offset(skip).limit(limit))
    return rows.all()


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer once everything is connected."""
    return {"status": "ok"}
