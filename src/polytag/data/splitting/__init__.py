"""Split datasets into training, validation and test sets without leaks."""
