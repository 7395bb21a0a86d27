"""EHR families by the name that `ehrs.<key>.dialect` takes; one file each, registration spelt out."""

from bridge.fhir.dialects import aidbox, athenahealth, candle, fhirworks, firely, generic, hapi, medplum
from bridge.fhir.dialects.base import Dialect

DIALECTS: dict[str, Dialect] = {
    "generic": generic.DIALECT,
    "hapi": hapi.DIALECT,
    "smile": hapi.DIALECT,  # the same code base
    "medplum": medplum.DIALECT,
    "athenahealth": athenahealth.DIALECT,
    "aidbox": aidbox.DIALECT,
    "firely": firely.DIALECT,
    "fhirworks": fhirworks.DIALECT,
    "candle": candle.DIALECT,
}

__all__ = ["DIALECTS", "Dialect"]
