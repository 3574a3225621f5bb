"""The parts of reading a table: files to cells, cells to values and names, and checks on the outcome."""
