"""The catalog's schema, step by step (Alembic). A step that has been released is never changed."""
