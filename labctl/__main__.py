"""The way in: `labctl`, and `python -m labctl`.

Importing the commands takes a moment, in which nothing is begun yet. A signal in that moment ends the process here,
with the words and the exit code that it would have later. Nothing that takes time may be imported by this module.
"""

from __future__ import annotations

import os
import signal

SAYS = b"error: interrupted  [interrupted]\n  next: run the command again\n"


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # It is ignored under nohup, or where a shell starts us in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    from labctl.cli.main import main as run

    run()


def _leave(number: int, _: object) -> None:
    try:
        os.write(2, SAYS)
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    main()
