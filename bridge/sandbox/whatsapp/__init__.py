"""The pretend WhatsApp: the Graph API with its checks and refusals, phones, and signed webhooks that misbehave."""
