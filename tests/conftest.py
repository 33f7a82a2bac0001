"""For all tests: the programs that they start hear signals, whoever started pytest."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A program started in the background by a shell ignores SIGINT, one under nohup SIGHUP; children inherit it.

    A handler is not inherited: with one in place here, the programs that tests start hear the signal again.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
