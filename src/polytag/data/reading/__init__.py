"""Read label tables, annotation files and folders in every supported form; write them too."""
