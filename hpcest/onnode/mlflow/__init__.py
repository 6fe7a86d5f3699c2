"""MLflow's calls in a program, answered from the run folders and models of a workspace; MLflow itself is imported when it is used."""
