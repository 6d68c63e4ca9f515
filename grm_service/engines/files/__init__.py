"""Model files: download, metadata, conversion to GGUF, LoRA merging."""
