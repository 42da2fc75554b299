"""One module per FHIR interaction; each takes a FhirRequest and gives an Answer."""
