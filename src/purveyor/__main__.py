"""The console script ``app``, also as ``python -m purveyor``."""

import os
import signal
import sys


def main() -> None:
    """Run the command line. ``kit.process.exit_codes`` lists the exit codes.

    The imports take a second. A signal in the meantime ends ``serve`` and ``worker`` with code 0, because no work
    has begun; other commands are interrupted.
    """
    serving = sys.argv[1:2] in (["serve"], ["worker"])
    for number in (signal.SIGINT, signal.SIGTERM) if serving else (signal.SIGINT,):
        signal.signal(number, lambda *_: os._exit(0 if serving else 130))
    from purveyor.kit.process.exit_codes import exit_with_one_line

    with exit_with_one_line():  # importing the registry refuses packages that do not fit
        from purveyor import cli
    if not serving:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
