"""``app`` without the second that its imports take: one process makes them, and forks for each command.

A command has arguments, an environment, a working directory, standard streams and an exit code of its own.
"""

import atexit
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

_MAX_REQUEST = 64 * 1024


class _Forker:
    """The process that forks. It ends when its socket closes, so also when this process is killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, its_end = socket.socketpair()
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(its_end.fileno())],
                pass_fds=[its_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            )
        atexit.register(self._end)

    def run(self, request: Mapping[str, object], streams: list[int]) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
            return int(self._socket.recv(16))

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def _forker() -> _Forker:
    return _Forker()


def run(*arguments: str, env: Mapping[str, str], cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``app`` with these arguments to its end."""
    request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd)}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        code = _forker().run(request, [given.fileno(), out.fileno(), err.fileno()])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read().decode(), err.read().decode())


def _serve(requests: socket.socket) -> None:
    import purveyor

    for module in pkgutil.walk_packages(purveyor.__path__, "purveyor."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    while True:
        request, streams, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 3)
        if not request:
            return
        child = os.fork()
        if child == 0:
            _become_app(json.loads(request), streams)
        for stream in streams:
            os.close(stream)
        requests.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _become_app(request: Mapping[str, object], streams: list[int]) -> NoReturn:
    code = 70
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[arg-type]
        os.chdir(str(request["cwd"]))
        sys.argv = ["app", *request["arguments"]]  # type: ignore[misc]
        from purveyor.__main__ import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
