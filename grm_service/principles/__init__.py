"""Principles: wording, linting, kinds of query, and what the judge writes over many verdicts."""
