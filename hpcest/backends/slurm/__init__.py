"""The backend ``slurm``: the same run on a cluster, through submitit's executor."""
