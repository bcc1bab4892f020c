"""The whole system on a laptop: the real handlers, a stand-in for API Gateway that reads template.yaml, AWS by moto,
and a fake Pocketsflow."""
