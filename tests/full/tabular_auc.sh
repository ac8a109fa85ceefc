#!/bin/sh
# Cross-validates the network of examples/tabular with five seeds: a mean ROC-AUC of 0.785 or more, and none under 0.77.
#   tests/full/tabular_auc.sh TABULAR_PROGRAM
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for seed in 0 1 2 3 4; do
  "$1" --seed "$seed" --save "$work/tabular.safetensors" >"$work/out"
  auc=$(sed -n 's/^mean ROC-AUC \([0-9.]*\)$/\1/p' "$work/out")
  echo "seed $seed: ROC-AUC $auc"
  echo "$auc" >>"$work/areas"
done
awk '{ sum += $1; if (NR == 1 || $1 < least) least = $1 }
     END { mean = sum / NR; printf "mean %.4f, least %.4f\n", mean, least; exit !(NR == 5 && mean >= 0.785 && least >= 0.77) }' \
  "$work/areas"
