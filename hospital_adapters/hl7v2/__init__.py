"""HL7 v2.1 to 2.8: bytes to messages, messages to FHIR R4 transaction Bundles, acknowledgements.

https://www.hl7.org/implement/standards/product_brief.cfm?product_id=185; the tables that say what becomes what lie in
`hospital_adapters/rules/`.
"""
