"""Doctor, up, proof, labs, down in one go: one exit code, and a report whatever happens.

`labctl.ci.run` holds the order and what follows from a failure; `labctl.ci.stages` ties the
phases to the rest of labctl. Neither writes to the screen or to a report file.
"""
