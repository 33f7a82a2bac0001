"""kubectl, as it runs inside a node.

Every node carries kubectl in the cluster's own version, so the host needs none. This module
exists to call it there; it must not know what is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labctl.process import Completed
from labctl.tools.docker import Docker

ADMIN = "/etc/kubernetes/admin.conf"
SUPER_ADMIN = "/etc/kubernetes/super-admin.conf"
"""Of the first control plane. The admin's rights are a binding that kubeadm makes seconds after the API server
answers; these need none."""
FIELD_MANAGER = "labctl"
APPLY_SECONDS = 120.0


class NodeKubectl:
    """kubectl in the control-plane node ``container``, with the admin's rights or those of ``kubeconfig``."""

    def __init__(self, docker: Docker, container: str, kubeconfig: str = ADMIN) -> None:
        self.docker = docker
        self.container = container
        self.kubeconfig = kubeconfig

    def apply(self, yaml_text: str, *, timeout: float = APPLY_SECONDS) -> None:
        """Apply every document of ``yaml_text`` on the server's side: labctl owns the fields it sets.

        Raises `CommandFailed` with the API server's words, `NodeDown`, `CommandTimedOut`.
        """
        owner = ["--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}"]
        self.run(["apply", *owner, "--filename=-"], stdin=yaml_text, timeout=timeout)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes | None = None,
        timeout: float = 60.0,
        check: bool = True,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """``kubectl ARGV`` in the node; ``argv`` without the program's name."""
        return self.docker.exec(
            self.container, self._argv(argv), stdin=stdin, timeout=timeout, check=check, on_line=on_line
        )

    def run_attached(self, argv: Sequence[str]) -> int:
        """The same on the user's own terminal, without a time-out; returns kubectl's exit code."""
        return self.docker.exec_attached(self.container, self._argv(argv))

    def _argv(self, argv: Sequence[str]) -> list[str]:
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", *argv]
