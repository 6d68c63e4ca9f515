"""Engines turn a prompt into a completion; see base.py for the one verb they share."""
