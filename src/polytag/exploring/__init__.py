"""Show the data on one page: examples, counts, sizes, combinations of labels."""
