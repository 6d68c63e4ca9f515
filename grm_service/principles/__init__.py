"""Principles: wording, the linter, kinds of query, and statistics of the judge's own principles."""
