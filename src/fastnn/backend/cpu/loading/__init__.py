"""Machine code: compiled, kept on disk, linked, and made callable from Python."""
