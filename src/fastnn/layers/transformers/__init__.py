"""Layers of transformers: attention, positions, blocks, and single steps of them."""
