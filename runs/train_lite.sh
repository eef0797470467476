#!/bin/sh
# LITE for another stretch, on whatever this machine has: runs/train_lite.sh MINUTES CHECKPOINT [DATA...]
# CHECKPOINT is a run's folder, with checkpoint.pt or its pieces, or that file in it; a new run begins where there is
# none. DATA is by default the folder $DATA. The last line says crops/s and the share of the device's matrix peak.
# In the environment may be set: INIT, a model to start from (lite: the bundled one); BATCH, CROP, OPTIMIZER, RATE and DECAY
# (0: the learning rate stays constant, for every stretch but the last); SHARD_SIZE, MB of the checkpoint's pieces, for
# machines that move only small files.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 MINUTES CHECKPOINT [DATA...]" >&2; exit 2; }
minutes=$1 run=${2%/checkpoint.pt}
shift 2
[ $# -ge 1 ] || set -- "${DATA:?name the photographs, or set DATA}"
exec "${PYTHON:-python3}" -m hpcm train --config lite --data "$@" --out "$run" --resume --minutes "$minutes" \
    ${INIT:+--init "$INIT"} ${BATCH:+--batch "$BATCH"} ${CROP:+--crop "$CROP"} ${RATE:+--rate "$RATE"} \
    ${OPTIMIZER:+--optimizer "$OPTIMIZER"} --decay "${DECAY:-0.3}" ${SHARD_SIZE:+--shard-size "$SHARD_SIZE"}
