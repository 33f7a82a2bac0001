"""Cluster files: read with their line numbers, checked all at once, turned into a `ClusterSpec`."""
