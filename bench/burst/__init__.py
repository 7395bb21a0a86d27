"""The morning burst: how reminders that are all due at once leave, judged from the pretend WhatsApp's journal alone."""
