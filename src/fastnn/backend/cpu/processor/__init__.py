"""Sizes that suit this processor: vector widths, blocks of matrix products, the cost of records."""
