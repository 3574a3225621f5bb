"""Tag files, folders and lists of photos, and write the results."""
