"""The engine behind the authors' API: it loads labs, runs them, and proves that their checks can be trusted.

A lab file never imports from here, and neither does the authors' side of `labctl.lab`.
"""
