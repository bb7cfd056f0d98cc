"""Programs: flat int64 records with operand offsets, printable and verified."""
