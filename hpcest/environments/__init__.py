"""What runs run in: the kinds of environment that come with hpcest, one module each."""
