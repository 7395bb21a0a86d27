"""Firely Server: R4 rest-hook only; PUT `Type/id` with the resource, or with an empty body when no payload is set.

Source: https://github.com/FirelyTeam/firely-docs-firely-server `features_data_exchange/subscription.rst`
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(name="firely", counter="none")
