"""Attention and its gradients on GPUs."""
