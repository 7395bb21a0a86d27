"""What a resource means to a patient. Pure: values to values, touching nothing of the world."""
