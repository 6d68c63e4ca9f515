"""What the service costs and gains, measured side by side in one run: `make bench`."""
