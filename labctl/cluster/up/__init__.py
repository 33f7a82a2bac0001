"""`labctl up`: the steps from a spec to a proven cluster, and what follows when one of them fails."""
