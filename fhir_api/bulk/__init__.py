"""Bulk Data Access at the door: kick-off, status, files (https://hl7.org/fhir/uv/bulkdata/STU2/)."""
