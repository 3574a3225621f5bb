"""The pages of the server and of the review, and what serves them."""
