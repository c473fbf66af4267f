"""Accounts, as a tutorial on FastAPI would keep them: SQLAlchemy, bcrypt, and tokens that are valid for a day.

Settings: ``DATABASE_URL`` (``postgresql+asyncpg://``), ``JWT_SECRET``.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import bcrypt
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, EmailStr
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = os.environ["JWT_SECRET"]
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10, max_overflow=20)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The tables of this service."""


class User(Base):
    """One account."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True, index=True)
    name: Mapped[str] = mapped_column(String(255))
    password_hash: Mapped[str] = mapped_column(String(255))


class Registration(BaseModel):
    """Body of ``POST /register``."""

    email: EmailStr
    name: str
    password: str


class Credentials(BaseModel):
    """Body of ``POST /login``."""

    email: EmailStr
    password: str


class Profile(BaseModel):
    """An account as the API shows it."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    email: EmailStr
    name: str


async def open_session() -> AsyncIterator[AsyncSession]:
    """Give each request a session of its own."""
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(open_session)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Create the tables at start."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(title="auth", lifespan=lifespan)


@app.post("/register", response_model=Profile, status_code=201)
async def register(body: Registration, session: Session) -> Any:
    """Create an account."""
    if await session.scalar(select(User).where(User.email == body.email)):
        raise HTTPException(409, "This email address is taken")
    hashed = await asyncio.to_thread(bcrypt.hashpw, body.password.encode(), bcrypt.gensalt())
    user = User(email=body.email, name=body.name, password_hash=hashed.decode())
    session.add(user)
    await session.commit()
    return user


@app.post("/login")
async def login(body: Credentials, session: Session) -> dict[str, str]:
    """Check a password and sign a token."""
    user = await session.scalar(select(User).where(User.email == body.email))
    known = user and await asyncio.to_thread(bcrypt.checkpw, body.password.encode(), user.password_hash.encode())
    if not user or not known:
        raise HTTPException(401, "Wrong email address or password")
    claims = {"sub": str(user.id), "exp": datetime.now(UTC) + timedelta(days=1)}
    return {"access_token": jwt.encode(claims, SECRET, algorithm="HS256"), "token_type": "bearer"}


@app.post("/verify-token", response_model=Profile)
async def verify_token(authorization: Annotated[str, Header()], session: Session) -> Any:
    """Return the account of a bearer token."""
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    except jwt.PyJWTError as error:
        raise HTTPException(401, "Invalid token") from error
    user = await session.get(User, int(claims["sub"]))
    if not user:
        raise HTTPException(401, "Unknown user")
    return user


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer once the tables are there."""
    return {"status": "ok"}
