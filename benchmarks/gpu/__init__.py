"""Parts of `gpu_report.py`: checks and measurements on a machine with a GPU."""
