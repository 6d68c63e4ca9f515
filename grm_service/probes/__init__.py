"""Bias and attack probes: built-in questions and attacks, and the rules that a sound judge passes."""
