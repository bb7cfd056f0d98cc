"""Kernels of the ops of programs: one factory per op, specialised by dtype and variant; one file per family."""
