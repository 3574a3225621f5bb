"""Read tables: convert files to cells and cells to values and label names, and check the result."""
