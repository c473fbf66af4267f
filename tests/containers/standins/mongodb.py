"""A server with MongoDB's protocol and MONGO_INITDB_ROOT_USERNAME and _PASSWORD, as the official image does it."""

import os
import subprocess
import time
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError

_DATA = Path("/data/db")
_COMMAND = ["/opt/mongodb/bin/secantusd-py", "--standalone", "--storage-path", str(_DATA), "--cache-size", "64M"]


def make_root_user() -> None:
    """Only a server without authentication takes the first user; nobody else can reach this one."""
    with subprocess.Popen([*_COMMAND, "--host", "127.0.0.1", "--port", "27018"]) as server:
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            "mongodb://127.0.0.1:27018/", directConnection=True, timeoutMS=10_000
        )
        while not _has_root_user(client):
            time.sleep(0.2)
        client.close()
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:  # told while it was still starting, it may not have heard
            server.kill()


def _has_root_user(client: "pymongo.MongoClient[dict[str, object]]") -> bool:
    try:
        client.admin.command(
            "createUser",
            os.environ["MONGO_INITDB_ROOT_USERNAME"],
            pwd=os.environ["MONGO_INITDB_ROOT_PASSWORD"],
            roles=["root"],
        )
    except PyMongoError as error:
        return "already exists" in str(error)  # made by an attempt whose answer came too late
    return True


if __name__ == "__main__":
    _DATA.mkdir(parents=True, exist_ok=True)
    if not (done := _DATA / "root-user.done").exists():
        make_root_user()
        done.touch()
    os.execv(_COMMAND[0], [*_COMMAND, "--host", "0.0.0.0", "--port", "27017", "--auth"])
