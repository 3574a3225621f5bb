"""Read, represent and split photos with several labels."""
