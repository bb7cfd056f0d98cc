"""The objective of a training: losses, metrics and their accumulators."""
