"""The command line: one module per command group. A command parses, calls and renders; it decides nothing."""
