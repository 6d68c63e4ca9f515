"""The service behind the HTTP API: validation, queue, deduplication, grouping, metrics, API keys."""
