"""The loops that join the rooms: resolve, decide, apply, write back. Rooms stay pure or single-minded; this one knows all."""
