"""Hugging Face transformers on torch."""
