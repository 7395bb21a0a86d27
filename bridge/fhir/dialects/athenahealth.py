"""athenahealth event platform: history Bundles of R4B SubscriptionStatus, id-only, at least once, 2 s to answer.

Numbers restart at 1 in every Bundle, so they say nothing about gaps; `notificationEvent.id` is guaranteed. Appointments
are logical references (`focus.identifier`). Source: https://github.com/athenahealth/aone-fhir-subscriptions
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(name="athenahealth", counter="per-bundle", guarantees_event_id=True)
