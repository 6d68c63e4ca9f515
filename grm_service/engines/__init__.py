"""Engines: each one turns a prompt into a completion. The protocol that they share is in base.py."""
