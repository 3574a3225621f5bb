"""Shared parts of HTML pages: layout, figures, thumbnails and text."""
