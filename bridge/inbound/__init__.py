"""What a patient says and wants, and what becomes of it."""
