"""Parts of `gpu_report.py`: what is checked and measured on a machine with a GPU."""
