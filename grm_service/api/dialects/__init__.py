"""The wire formats of RL frameworks and inference servers, served by the same judge (docs/rl-loops.md)."""
