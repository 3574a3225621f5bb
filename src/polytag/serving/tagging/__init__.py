"""Tag files, folders and lists; write the results."""
