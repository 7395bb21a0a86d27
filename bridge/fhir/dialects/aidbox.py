"""Aidbox (2512+): notification Bundles in batches, handshake required, status entry without fullUrl or topic.

Source: https://www.health-samurai.io/docs/aidbox/modules/topic-based-subscriptions
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(name="aidbox")
