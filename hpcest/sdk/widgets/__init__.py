"""A run as a notebook shows it: what is known of it, how that looks, and how it is kept up to date."""
