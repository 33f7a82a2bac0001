"""What this machine has and lacks (doctor), and the way from there to ready (prepare).

`doctor` only looks, `prepare` changes, `daemon` owns a docker daemon that labctl started itself.
Nothing in here knows of clusters, images or labs: callers say what they need in a `Needs`.
"""
