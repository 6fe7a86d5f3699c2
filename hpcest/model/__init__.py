"""The nouns of hpcest as plain data: run specs, statuses, and every path spelt once."""
