#!/usr/bin/env bash
# Fine-tunes a DenseNet-121 of random weights at 224x224 on 64 made images: whole and with the backbone frozen, from a folder
# of classes and from a CSV file of findings. Prints the seconds and the most memory of each.
# Usage: scripts/finetune-121.sh FOLDER [EPOCHS]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
epochs=${2:-2}
target=${CARGO_TARGET_DIR:-target}/release
cargo build --release --bin densenet-zoo --example made_images
"$target/examples/made_images" "$folder" 64 256
zoo=$target/densenet-zoo

# A rate of zero leaves the weights as they were drawn.
mkdir -p "$folder/pair"
ln -sfn ../images "$folder/pair/train"
ln -sfn ../images "$folder/pair/val"
"$zoo" train --dataset imagenet --arch densenet-121 --n-classes 3 --lr 0 --epochs 1 --batch-size 16 \
    --augmentation flip --data "$folder/pair" --out "$folder/random" --force

printf '\n| images | trained | level | seconds an epoch | images/s | peak MiB |\n|---|---|--:|--:|--:|--:|\n'
for data in folder csv; do
    for freeze in none backbone; do
        for level in 3 4; do
            out=$folder/$data-$freeze-$level
            more=(--data "$folder/images")
            [ "$data" = csv ] && more+=(--labels "$folder/findings.csv")
            [ "$freeze" = backbone ] && more+=(--freeze backbone)
            "$zoo" finetune "$folder/random" "${more[@]}" --epochs "$epochs" --batch-size 16 --memory-level "$level" \
                --out "$out" --force > "$out.txt" 2> "$out.log"
            last=$(tail -n 1 "$out/metrics.jsonl")
            number() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<< "$last"; }
            trained=all
            [ "$freeze" = backbone ] && trained=classifier
            awk -v epochs="$epochs" -v s="$(number seconds)" -v rate="$(number images_per_s)" -v mib="$(number memory_mib)" \
                "BEGIN { printf \"| $data | $trained | $level | %.1f | %.1f | %.0f |\n\", s / epochs, rate, mib }"
        done
    done
done
