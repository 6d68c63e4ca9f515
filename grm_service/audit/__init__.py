"""The audit trail: an append-only, hash-chained record of every verdict and review."""
