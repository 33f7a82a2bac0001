"""Asking the data plane: probe pods, nodes, and callers outside the cluster.

What a probe is made of, how it is asked and what an answer may be stand here once, for the proof of a
cluster and for labs. It knows clusters only as addresses and containers, and decides nothing about
what ought to be seen.
"""

NONCE_LABEL = "labctl.dev/nonce"
"""The label of a probe pod that holds the nonce of the run that made it."""
