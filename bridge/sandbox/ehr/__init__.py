"""The pretend EHR: FHIR REST with versions, searches and Bundles, and notifications in four dialects."""
