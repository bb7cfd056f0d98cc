"""The parts of `compare.py`: the machine, the race, one module for each section, tables and the chart."""
