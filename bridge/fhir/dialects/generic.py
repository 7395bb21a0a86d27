"""A server we know nothing about: the standard, plus marks so unmistakable that they mean the same from anybody."""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(
    name="generic",
    interaction_header="x-medplum-interaction",  # nobody else uses the name, and missing a delete costs more
    deleted_header="x-medplum-deleted-resource",
)
