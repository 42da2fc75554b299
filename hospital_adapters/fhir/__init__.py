"""FHIR files from hospitals: bundles and NDJSON, through the same inbox as every other format."""
