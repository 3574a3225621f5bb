"""The web pages for tagging and review, and the code that serves them."""
