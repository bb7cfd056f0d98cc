"""What a training minimises and measures: losses, metrics and their accumulators."""
