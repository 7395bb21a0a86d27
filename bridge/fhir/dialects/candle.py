"""fhir-candle, HL7's reference server: `subscription` as a string, no `entry.request`, counters in memory.

Source: https://github.com/FHIR/fhir-candle
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(name="candle", counter="volatile")
