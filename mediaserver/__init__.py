"""mediaserver: a real-time media server for medical video."""

__version__ = "0.1.0"
