"""Servers that speak OpenAI's protocol: one, or several as a pool."""
