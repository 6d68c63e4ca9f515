"""Bias and attack probes: small texts of our own, what is done to them, what a sound judge makes of it."""
