"""Layouts of data sets: folders per label, several tables, images inside Parquet, keywords of photos."""
