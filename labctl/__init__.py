"""A real multi-node Kubernetes cluster on one machine, proven, and numbered labs that run on it."""

__version__ = "0.1.0"
