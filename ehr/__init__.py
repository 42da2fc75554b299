"""The record: storage, validation, indexing and search of FHIR R4 resources; imports no other package of ours."""
