"""`bridge demo`: the engine between a pretend EHR and a pretend phone, played by a script or by hand on a page.

What a ✓ asserts is what the pretend EHR holds and what the pretend phone got, as their journals and control APIs say; the
engine's tables are never asked. The sentences that are expected are made here by hand from `config/`, without the code
that renders them.
"""
