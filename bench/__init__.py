"""How fast the real engine is: `bridge serve` as its own process, pretend EHR and WhatsApp and the load in others.

Not part of the wheel; `bridge bench` and `make bench` find it in a checkout. Nothing in here is a timed test: it prints
what it reached beside what we aim at, and a slow machine fails nothing.
"""
