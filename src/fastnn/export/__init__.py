"""Networks and learners for compiled code, made of models."""
