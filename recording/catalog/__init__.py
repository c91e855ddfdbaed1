"""What is in the archive, to be found quickly: a database that can be rebuilt from the recordings' folders at any time.

One code base for SQLite and PostgreSQL. `schema` has the tables, `terms` what a recording is found by, `query` what can
be asked, `search` how a page of answers is fetched, `rows` how a folder becomes rows, `engine` the connection.
"""

from mediaserver.recording.catalog.engine import CatalogError, CatalogUnreachable
from mediaserver.recording.catalog.query import BadCursor, Query, Veil
from mediaserver.recording.catalog.rows import Entry
from mediaserver.recording.catalog.store import Access, Catalog

__all__ = ["Access", "BadCursor", "Catalog", "CatalogError", "CatalogUnreachable", "Entry", "Query", "Veil"]
