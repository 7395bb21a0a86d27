"""bridge: EHR events become WhatsApp messages, and what patients answer goes back into the EHR."""

__version__ = "0.1.0"
