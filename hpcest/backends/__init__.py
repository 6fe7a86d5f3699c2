"""Where runs run: one file for each backend. A backend is chosen by a compute target's ``backend:``."""
