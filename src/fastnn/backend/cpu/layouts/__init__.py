"""Layouts of the tables that Python and compiled code share: words by name."""
