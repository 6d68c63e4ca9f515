"""transformers on torch; nothing else imports torch."""
