"""Small calls of a model from Python: calls of a code on its own buffers."""
