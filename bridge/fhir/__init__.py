"""Speaking FHIR with the EHR: its notifications, reads, and what we write."""
