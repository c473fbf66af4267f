"""A log that nobody reads, or that cannot be written, costs lines and never time."""

import json
import logging
import os
import subprocess
import sys
import threading

from purveyor.kit.log import JsonFormatter, WriterHandler
from purveyor.kit.metrics import REGISTRY
from waiting import PATIENCE_S, wait_until

MEBIBYTE = 1024 * 1024


def dropped() -> float:
    return REGISTRY.get_sample_value("purveyor_log_lines_dropped_total") or 0.0


def lines(handler: WriterHandler, count: int, length: int) -> None:
    for number in range(count):
        handler.handle(logging.makeLogRecord({"msg": "x" * length, "number": number, "name": "t"}))


def handler_on(descriptor: int) -> WriterHandler:
    made = WriterHandler(descriptor)
    made.setFormatter(JsonFormatter())
    return made


def test_a_reader_that_stopped_costs_lines_that_are_counted_and_told() -> None:
    ours, theirs = os.pipe()
    handler = handler_on(theirs)
    before = dropped()
    lines(handler, 10, MEBIBYTE)
    lost = dropped() - before
    assert 5 <= lost <= 8, "4 MiB may wait, a line or so is in the hands of the writer"

    read = bytearray()

    def drain() -> None:
        while chunk := os.read(ours, MEBIBYTE):
            read.extend(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    wait_until(lambda: b"log lines dropped" in read)
    os.close(theirs)
    reader.join()
    os.close(ours)

    entries = [json.loads(line) for line in read.decode().splitlines()]
    assert len(entries) == 10 - lost + 1
    assert entries[-1]["event"] == "log lines dropped"
    assert entries[-1]["lines"] == lost


def test_a_log_that_cannot_be_written_costs_its_lines_and_no_more() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    handler = handler_on(full)
    before = dropped()
    lines(handler, 3, 10)
    handler.flush()
    os.close(full)

    assert dropped() - before == 3


PROGRAM = """
import logging
from purveyor.kit import log
log.configure("json", "info")
for number in range(int({count})):
    logging.getLogger("purveyor.test").info("line", extra={{"number": number, "fill": "x" * 1000}})
print("done", flush=True)
"""


def test_everything_is_written_before_the_process_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(count=2000)], capture_output=True, text=True, check=True, timeout=60
    )

    assert [json.loads(line)["number"] for line in done.stderr.splitlines()] == list(range(2000))


def test_a_process_whose_log_nobody_reads_works_on_and_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(count=20_000)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert process.wait(timeout=PATIENCE_S) == 0
