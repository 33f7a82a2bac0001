"""Parts of a cluster that are taken away for a while, and that always come back.

A counterfactual is worth nothing if it leaves the cluster worse than it was. So before anything is
taken, a marker says what it is and how it was; whoever finds the marker can pay it back, also after a
kill -9 and without the lab's file. What an absence shows is the labs' business, not this package's.
"""
