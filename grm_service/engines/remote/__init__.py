"""OpenAI-compatible servers: HTTP with retries, one server as an engine, a pool of servers."""
