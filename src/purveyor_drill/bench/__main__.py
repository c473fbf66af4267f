"""Measure Purveyor beside naive services on private servers, and print a table with ratios.

PostgreSQL (flushing every commit to the disk), Redis, RabbitMQ, a mail sink and a product API are started for the
run, and take load on loopback only. The peer (scripts/bench_peer) and Purveyor in the shapes monolith and embedded
are measured in turn. Needs redis-server, rabbitmq-server and Linux; pgbench is used if it is there. Its load
generator is its own. A full run takes about 10 minutes.

Exit code 1: the run is invalid, because requests failed, events or emails still waited after the time for them, or
the databases were in memory. The table says which.
"""

import argparse
import sys
from pathlib import Path

from purveyor_drill.bench.compare import Plan, compare
from purveyor_drill.bench.plot import render_plot
from purveyor_drill.bench.program import FOLDER, append_json, measure
from purveyor_drill.bench.results import faults
from purveyor_drill.bench.table import render_table

_MAX_ROUNDS, _MAX_SECONDS = 20, 60


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of short loads: about 2 minutes")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each load of orders (default: 6)")
    parser.add_argument(
        "--drain", type=float, default=30.0, metavar="SECONDS", help="time for events and emails after a load (30)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the figures to FILE, as a line of JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a bar chart of the ratios (SVG)")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"folder on a disk for the databases ({FOLDER})"
    )
    parser.add_argument("--peer-python", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--peer-source", type=Path, required=True, help=argparse.SUPPRESS)
    return parser


def _plan(options: argparse.Namespace, folder: Path) -> Plan:
    quick = options.quick
    return Plan(
        rounds=1 if quick else options.rounds,
        seconds=2.0 if quick else options.seconds,
        path_seconds=1.0 if quick else max(1.0, options.seconds / 2),
        drain_s=options.drain,
        customers=4 if quick else 20,
        folder=folder,
        peer_python=options.peer_python,
        peer_source=options.peer_source,
    )


def main() -> int:
    """Run it; 0 if the run is valid."""
    parser = _parser()
    options = parser.parse_args()
    if not (1 <= options.rounds <= _MAX_ROUNDS and 1 <= options.seconds <= _MAX_SECONDS):
        parser.error(f"at most {_MAX_ROUNDS} rounds of at most {_MAX_SECONDS} seconds")
    run = measure("bench", options.folder, lambda folder: compare(_plan(options, folder)))
    print(render_table(run))
    if options.json:
        append_json(options.json, run)
    if options.plot:
        options.plot.write_text(render_plot(run))
    return 1 if faults(run) else 0


if __name__ == "__main__":
    sys.exit(main())
