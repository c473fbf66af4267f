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
import tempfile
from pathlib import Path

import msgspec
import uvloop

from purveyor_drill.bench.compare import Plan, compare
from purveyor_drill.bench.plot import render_plot
from purveyor_drill.bench.results import faults
from purveyor_drill.bench.table import render_table
from purveyor_drill.servers import reaper
from purveyor_drill.servers.process import StartFailed

_MAX_ROUNDS, _MAX_SECONDS = 20, 60
_FOLDER = Path("/var/tmp")  # noqa: S108 - on a disk, unlike /tmp on some machines; the folder made there is private


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
        "--folder", type=Path, default=_FOLDER, help=f"folder on a disk for the databases ({_FOLDER})"
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
    tempfile.tempdir = str(options.folder)
    try:
        with tempfile.TemporaryDirectory(prefix="purveyor-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # the embedded server may run as another account
            reaper.remove_at_end(folder)
            run = uvloop.run(compare(_plan(options, folder)))
    except (StartFailed, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(render_table(run))
    if options.json:
        with options.json.open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")
    if options.plot:
        options.plot.write_text(render_plot(run))
    return 1 if faults(run) else 0


if __name__ == "__main__":
    sys.exit(main())
