"""CSV files from hospitals, read by a YAML feed file without Python."""
