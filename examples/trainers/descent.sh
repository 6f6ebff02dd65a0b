#!/bin/sh
# Newton's iteration for the square root of 2, in a shell: a program in any language can be run, watched and resumed.
#   descent.sh STEPS FILE [FILE TO GO ON FROM]
steps=$1 file=$2 step=0 value=100.0
if [ -n "$3" ]; then
    read -r step value < "$3"
    echo "going on from $3"
fi
mkdir -p "$(dirname "$file")"
while [ "$step" -lt "$steps" ]; do
    step=$((step + 1))
    value=$(awk -v x="$value" 'BEGIN { printf "%.12f", (x + 2 / x) / 2 }')
    error=$(awk -v x="$value" 'BEGIN { printf "%.6g", x * x - 2 }')
    echo "step=$step/$steps error=$error"
    echo "$step $value" > "$file.part" && mv "$file.part" "$file.$step"
    sleep "${PAUSE:-0}"
done
