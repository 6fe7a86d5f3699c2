"""Where built images lie: the workspace's own store, then the site's, which are only read."""
