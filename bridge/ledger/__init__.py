"""What must not be lost, and happens once: one database that every other room meets in through rows."""
