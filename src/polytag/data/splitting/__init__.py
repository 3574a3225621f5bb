"""Split into training, validation and test sets without leaks."""
