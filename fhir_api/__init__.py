"""HTTP: the FHIR REST interface, the embedded token issuer and the pages around them (DESIGN 4.6)."""
