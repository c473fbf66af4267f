"""The console script ``app``, also as ``python -m purveyor``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; see ``cli.errors`` for what its exit codes mean.

    Its imports take a second. A signal meanwhile finds nothing in hand: ``serve`` and ``worker`` end as they
    always do, and so until their event loop takes the signals over; other commands are interrupted.
    """
    serving = sys.argv[1:2] in (["serve"], ["worker"])
    for number in (signal.SIGINT, signal.SIGTERM) if serving else (signal.SIGINT,):
        signal.signal(number, lambda *_: os._exit(0 if serving else 130))
    from purveyor import cli

    if not serving:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
