"""One results model in; text, JSON, JUnit, Markdown and HTML out. Nothing here runs anything."""
