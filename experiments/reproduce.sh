#!/bin/sh
# Makes a nano from pictures: trains it from principal components, makes it exact, and evaluates it.
#
#     experiments/reproduce.sh small PHOTOS PICTURES OUT
#     experiments/reproduce.sh full PHOTOS PICTURES OUT SCREENS
#
# PHOTOS    folder of photographs to train on
# PICTURES  folder of lossless pictures to evaluate on, such as Kodak's
# OUT       folder for the run, the weights file and the report; given again, the command goes on
# SCREENS   folder of screenshots and pages, which take 15% of the crops
#
# small: minutes on one core of a CPU. It shows the way; the model is poor.
# full:  the settings of nano-1's last stretch on a GPU, for as many crops as nano-1 saw in all.
#        docs/training.md says what they reached.
set -eu
usage="usage: $0 small|full PHOTOS PICTURES OUT [SCREENS]"
size=${1:?$usage} photos=${2:?$usage} pictures=${3:?$usage} out=${4:?$usage}
hpcm=${HPCM:-hpcm}  # another way to start it, such as "python -m hpcm"

case $size in
small)
    $hpcm train --config nano --data "$photos" --out "$out/run" --resume \
        --steps 100 --batch 4 --crop 128 --warmup 20 --decay 0.5 --evaluate 0
    qualities=9,24,40,56
    ;;
full)
    screens=${5:?$usage}
    $hpcm train --config nano --data "$photos" --data "$screens" --mix 0.85 0.15 --out "$out/run" --resume \
        --steps 20000 --batch 64 --crop 256 --downscale 0.67 \
        --optimizer muon --rate 2e-3 --warmup 200 --schedule decay --decay 1 --clip 1 \
        --balance 0.5 --average 0.999 --precision bf16 --graph
    qualities=5,12,20,29,36,44,52,60,67,76
    ;;
*)
    echo "$usage" >&2
    exit 2
    ;;
esac

# The inputs' ranges are measured on some of the photographs.
calibration=20
set --
for photo in "$photos"/*; do
    if [ $# -lt $calibration ]; then
        set -- "$@" "$photo"
    fi
done
$hpcm exact "$out/run" "$@" --name my-nano-1 -o "$out/my-nano-1.safetensors" -f
$hpcm eval "$pictures" --model "$out/my-nano-1.safetensors" nano --codecs jpeg --qualities $qualities -o "$out/report"
