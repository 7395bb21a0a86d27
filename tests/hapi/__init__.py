"""The same promises against a real FHIR server: HAPI FHIR JPA 8.8.0."""
