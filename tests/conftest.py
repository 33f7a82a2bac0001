"""For all tests: interrupts are heard, whoever started pytest."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A program that a shell starts in the background ignores SIGINT, and so would all its children.

    With Python's own handler in place the programs that tests start hear it again.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
