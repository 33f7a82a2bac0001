"""Where node and workload images come from: the lock file, pull, load, and a build from packages.

Start at `nodeimage.ensure`, which chooses; `build` is the last source and the long story.
This layer must not know what a cluster is.
"""
