"""apt-get and dpkg.

This module exists so that packages are installed the same way everywhere: without questions,
without recommended extras, waiting for another apt's lock. It never relies on a package
starting its service: a machine's policy may forbid that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from labctl import process
from labctl.errors import CommandFailed, HostError
from labctl.process import Completed

ANSWER_SECONDS = 30.0
UPDATE_SECONDS = 300.0
INSTALL_SECONDS = 900.0
LOCK_SECONDS = 120
"""How long to wait for another package manager (unattended upgrades) to finish."""
SETTINGS = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
"""No questions, known words, and no scan of all running programs after each package (16 s for 1 MB)."""


class Apt:
    """The package manager of Debian and its children."""

    def present(self) -> bool:
        """Whether this machine has apt-get and dpkg at all."""
        return bool(process.which("apt-get") and process.which("dpkg-query"))

    def missing(self, packages: Sequence[str]) -> tuple[str, ...]:
        """Those of ``packages`` that are not installed, in the order given."""
        if not packages:
            return ()
        done = process.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *packages],
            timeout=ANSWER_SECONDS,
            check=False,
        )
        installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
        return tuple(package for package in packages if package not in installed)

    def known(self, package: str) -> bool:
        """Whether the package lists, as they are on this machine, offer ``package``."""
        done = process.run(
            ["apt-cache", "show", "--no-all-versions", package], timeout=ANSWER_SECONDS, check=False
        )
        return done.ok and bool(done.stdout.strip())

    def update(self, *, on_line: Callable[[str], None] | None = None) -> None:
        """Fetch the package lists. Raises `HostError` with apt's words."""
        self._get("update", timeout=UPDATE_SECONDS, on_line=on_line)

    def install(self, packages: Sequence[str], *, on_line: Callable[[str], None] | None = None) -> None:
        """Install ``packages`` with what they depend on. Raises `HostError` with apt's words."""
        options = ["--yes", "--no-install-recommends", "--option=Dpkg::Options::=--force-confold"]
        self._get("install", *options, *packages, timeout=INSTALL_SECONDS, on_line=on_line)

    def _get(self, verb: str, *args: str, timeout: float, on_line: Callable[[str], None] | None) -> Completed:
        argv = ["apt-get", "--quiet", f"--option=DPkg::Lock::Timeout={LOCK_SECONDS}", verb, *args]
        env = {**os.environ, **SETTINGS}
        try:
            return process.run(argv, timeout=timeout, env=env, on_line=on_line)
        except CommandFailed as failed:
            raise HostError(
                f"apt-get {verb} failed",
                why=next((line for line in failed.stderr.splitlines() if line.startswith("E:")), failed.why),
                next_step="put the package sources in order, then run the command again",
                details=f"{failed.what}\n{failed.details}",
            ) from failed
