"""Reward functions for RL frameworks, one module each.

They read the URL of the service from GRM_URL, and its API key, if it needs one, from GRM_KEY. Each module
also has a factory or parameters for another client and for judge options.
"""
