"""mediaserver: a real-time media server for medical video.

    from mediaserver import Config, MediaServer

runs a whole server inside an asyncio application; see `MediaServer`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Config", "ConfigError", "MediaServer", "StartError", "__version__"]

if TYPE_CHECKING:
    from mediaserver.config import ConfigError
    from mediaserver.net import StartError
    from mediaserver.server import MediaServer
    from mediaserver.settings import Config

_HOMES = {
    "Config": "mediaserver.settings",
    "ConfigError": "mediaserver.config",
    "MediaServer": "mediaserver.server",
    "StartError": "mediaserver.net",
}


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: the command line starts faster."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
