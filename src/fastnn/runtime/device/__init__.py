"""A model on a GPU: its memory there, runs of its programs, streamed data, captured steps."""
