"""Files: written whole or not at all, archives of arrays, tables, a user's samples."""
