"""How programs are started, and how their ranks find each other: one file per framework."""
