"""The thread pool, and the processors that its threads keep to."""
