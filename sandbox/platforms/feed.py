"""A stand-in for the catch-hook of a no-code tool: it keeps what comes and answers as Zapier does.

help.zapier.com: "Trigger Zaps from webhooks" (200 and `{"status": "success"}`; 429 beyond thirty requests a second). A
request to another hook than its own gets the 404 of n8n, whose workflow is not active.
"""
