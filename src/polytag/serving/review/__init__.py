"""Review suspect labels and photos on a local web page."""
