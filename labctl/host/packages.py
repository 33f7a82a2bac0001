"""Which Debian packages are needed for what: one list for the doctor, prepare and the image build."""

from __future__ import annotations

DOCKER = ("docker.io", "iptables", "ca-certificates", "perl-base")
"""The daemon, what it programs the network with, what it trusts a registry by, and the language of
labctl's runtime wrapper (perl-base is on every Debian anyway)."""

DOCKER_CLIENT = "docker-cli"
"""Debian 13 and later have the client in a package of its own; earlier releases do not know this name."""

APPARMOR = "apparmor"
"""Where the kernel has AppArmor on, docker needs its parser to start any container."""

NODE_BUILD = ("mmdebstrap", "debian-archive-keyring", "gcc", "libc6-dev", "pkg-config", "libseccomp-dev")
"""For a node image from packages: its root file systems (mmdebstrap, and the keys by which it trusts Debian on
another distribution), and a C compiler with what runc, flanneld and pause need."""
