"""From Azure ML's imports to hpcest's own."""
