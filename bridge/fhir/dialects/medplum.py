"""Medplum: POST always; a delete is `{}` with two headers; versionId is a UUID, so a push without news is a hint.

Source: https://github.com/medplum/medplum/blob/main/packages/server/src/workers/subscription.ts
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(
    name="medplum",
    counter="none",
    interaction_header="x-medplum-interaction",
    deleted_header="x-medplum-deleted-resource",
)
