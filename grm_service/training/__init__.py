"""Trains a judge (SPCT, arXiv 2504.02495): trajectories, rejective fine-tuning, online RL, meta RM."""
