"""Lowering: a graph and a batch size become a program of records over planned memory."""
