"""Which labels a node may be given when it is made.

The kubelet takes them as an option, refuses what Kubernetes keeps for itself, and then does not start:
seen from outside that is a node that never comes.
Source: k8s.io/kubernetes, pkg/kubelet/apis/well_known_labels.go and cmd/kubelet/app/options.
"""

from __future__ import annotations

import re

KEPT = ("kubernetes.io", "k8s.io")
"""Kubernetes' own domains, with everything below them."""
OPEN = ("kubelet.kubernetes.io", "node.kubernetes.io")
"""Those below them that the kubelet may use, with everything below these."""
KNOWN = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    )
)
WORD_MOST = 63
DOMAIN_MOST = 253

_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")

WORD_RULE = f"at most {WORD_MOST} letters, digits, and inside them '-', '_', '.'"


def key_fault(key: str) -> str:
    """What is wrong with a label's key, '' when the kubelet takes it."""
    domain, slash, word = key.rpartition("/")
    if not is_word(word) or not word:
        return f"a label's name is {WORD_RULE}"
    if slash and (len(domain) > DOMAIN_MOST or not _DOMAIN.fullmatch(domain)):
        return "what stands before the slash is a domain in lower case"
    if _below(domain, KEPT) and key not in KNOWN and not _below(domain, OPEN):
        return f"the kubelet does not start with a label of {domain}: Kubernetes keeps those for itself"
    return ""


def is_word(value: str) -> bool:
    """Whether this can be a label's value; it may be empty."""
    return not value or (len(value) <= WORD_MOST and _WORD.fullmatch(value) is not None)


def _below(domain: str, roots: tuple[str, ...]) -> bool:
    return any(domain == root or domain.endswith(f".{root}") for root in roots)
