"""Show a dataset on one page: examples, label counts, combinations, image sizes and colours."""
