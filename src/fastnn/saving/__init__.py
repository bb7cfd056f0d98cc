"""Model files: one safetensors file with a JSON document, written atomically and checked when read."""
