"""What RL frameworks and inference servers speak, answered by the same judge (docs/rl-loops.md)."""
