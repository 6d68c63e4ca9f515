"""Model files: fetched, read, converted, merged."""
