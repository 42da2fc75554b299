"""Adapters: hospital records as they come (HL7 v2, CSV, FHIR) turned into FHIR R4 and written to the record."""
