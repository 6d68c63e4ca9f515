"""grm-service: the reward service that explains itself.

Importing this package is light on purpose: `grm_service.client` runs inside other people's trainers.
"""

__version__ = "0.1.0"
