"""Lowering: from a graph and a batch size to a program of records over planned memory."""
