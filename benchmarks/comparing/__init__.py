"""What `compare.py` is made of: the machine, the race, one module for each section, tables and the chart."""
