"""FHIR Works on AWS: with payload set, PUT `Type/id` with an empty body (id-only by choice); without, an empty POST.

Source: https://github.com/awslabs/fhir-works-on-aws-deployment `USING_SUBSCRIPTIONS.md`
"""

from bridge.fhir.dialects.base import Dialect

DIALECT = Dialect(name="fhirworks", counter="none")
