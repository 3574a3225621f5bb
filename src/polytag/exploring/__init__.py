"""Show the data on one page: examples, label counts, combinations, image sizes and colours."""
