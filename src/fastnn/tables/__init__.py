"""Tables prepared for networks: columns of numbers, categories, dates and gaps, and what was done to them."""
