"""From a `ClusterSpec` to a running, proven cluster, and back to nothing.

Start at `labctl.cluster.up.bringup`: it lists the steps of `labctl up` in their order.
"""
