"""Read dataset layouts: one folder per label, several tables, images inside Parquet files, and photo keywords."""
