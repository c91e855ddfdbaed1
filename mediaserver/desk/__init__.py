"""The archivist's desk: recordings over HTTP, who may see them, and what is done to them."""
