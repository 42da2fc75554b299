"""Bulk work: exports and imports as jobs of the job table, whose progress is durable and which end exactly once.

https://hl7.org/fhir/uv/bulkdata/STU2/
"""
