"""Getting a message to a patient once: what may leave, when, and what became of it."""
