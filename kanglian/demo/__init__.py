"""The demo: a synthetic county, made from a seed, that sends its records through the platform's own doors."""
