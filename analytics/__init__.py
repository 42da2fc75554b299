"""De-identified population questions over the record: counts and rates that are safe to publish, never a row."""
