"""What every HTML page is made of: templates, figures, thumbnails, tables."""
