"""HAPI FHIR JPA and Smile CDR. Observed on 8.8.0: reference/fhir.md section 2, requests in corpus/hapi.

The event number is an in-memory delivery count and restarts with the server. Deletes arrive as DELETE `Type/id`
(criteria Subscriptions, with an extension) or as an entry with only `request.method = DELETE` (topics).
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(name="hapi", counter="volatile")
