#!/bin/sh
# Becomes slurmd of one node, inside the namespaces that belong to it:  node.sh NODE FOLDER
set -e
node=$1 folder=$2
hostname "$node"
mount --make-rprivate /
mount -t tmpfs -o mode=1777 none /dev/shm
mount -t tmpfs -o mode=1777 none "$folder/pmix"
mount --bind "$folder/hosts" /etc/hosts
exec slurmd -D -f "$folder/slurm.conf" -N "$node"
