"""Find out what separates the labels in a cell: marks, blanks or punctuation."""
