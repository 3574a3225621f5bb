"""Read label tables, annotation files and folders in every supported format, and write tables."""
