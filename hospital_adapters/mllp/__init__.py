"""HL7 v2 over MLLP: framing and the listener (HL7 Minimal Lower Layer Protocol, Release 1)."""
