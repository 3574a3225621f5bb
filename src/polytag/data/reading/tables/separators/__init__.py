"""What separates the labels in a cell: marks, blanks and punctuation."""
