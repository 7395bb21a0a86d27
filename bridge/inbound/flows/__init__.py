"""One file per conversation: what holds × what the patient wants → effects. Pure; effects are applied elsewhere."""
