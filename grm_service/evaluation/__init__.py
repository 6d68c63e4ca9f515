"""Measures a judge on preference data: accuracy, scaling with k, calibration, biases, cost."""
