#!/bin/sh
# NANO for another stretch, on the CPU: runs/train_nano.sh MINUTES RUN DATA...
# Goes on from RUN's checkpoint if there is one. In the environment may be set: INIT, a model to start from (nano:
# the bundled one); RATE, THREADS and DECAY: 0 keeps the learning rate constant (every stretch but the last), the default
# brings it down to zero over the last 30%.
set -eu
[ $# -ge 3 ] || { echo "usage: $0 MINUTES RUN DATA..." >&2; exit 2; }
minutes=$1 run=$2
shift 2
exec "${PYTHON:-python3}" -m hpcm train --config nano --data "$@" --out "$run" --resume --minutes "$minutes" \
    --device cpu ${INIT:+--init "$INIT"} ${RATE:+--rate "$RATE"} --decay "${DECAY:-0.3}" --threads "${THREADS:-1}"
