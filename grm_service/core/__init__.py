"""The method, pure: no I/O, no torch, no asyncio. Serving, evaluation and training call these functions."""
