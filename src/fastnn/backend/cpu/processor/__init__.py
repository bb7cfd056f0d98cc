"""What pays on this processor: vector widths, blocks of matrix products, the cost of records."""
