"""Ops of sequences: attention and recurrent layers."""
