"""One class per external program, one method per verb of its command line.

A tool knows how its program is called and what its failures mean; it translates them once
into labctl.errors. It does not know why it is called: no clusters, labs or images here.
"""
