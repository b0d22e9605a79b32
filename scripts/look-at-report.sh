#!/usr/bin/env bash
# Evaluates the embedded digits, makes the report, and shows it in headless Chromium: wide, dark, on a phone, in print.
# usage: look-at-report.sh FOLDER [ZOO_BINARY]       the pictures are left in FOLDER; build with `cargo build --release` first.
set -euo pipefail

folder=${1:?usage: look-at-report.sh FOLDER [ZOO_BINARY]}
binary=${2:-$(cd "$(dirname "$0")/.." && pwd)/target/release/densenet-zoo}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
mkdir -p "$folder/results"
folder=$(cd "$folder" && pwd)
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

"$binary" eval digits --data digits --format json --predictions "$folder/results/digits.jsonl" --force >"$folder/results/digits.json"
"$binary" report "$folder/results" -o "$folder/report.html" --force

# The page's own security policy for this check: nothing may be loaded from anywhere but the page itself.
sed 's|<meta charset="utf-8">|&<meta http-equiv="Content-Security-Policy" content="default-src '"'none'"'; img-src data:; style-src '"'unsafe-inline'"'">|' \
    "$folder/report.html" >"$folder/closed.html"
look() {
    local log="$profile/log"
    "$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
        --disable-sync --hide-scrollbars --enable-logging=stderr --user-data-dir="$profile/chromium" "$@" \
        "file://$folder/closed.html" 2>"$log"
    if grep -E 'CONSOLE|Refused to' "$log"; then
        echo "the page asks for something that it does not hold" >&2
        exit 1
    fi
}
look --window-size=1280,2400 --screenshot="$folder/wide.png"
look --window-size=1280,1200 --blink-settings=preferredColorScheme=0 --screenshot="$folder/dark.png"
look --window-size=500,2600 --screenshot="$folder/phone.png"
look --no-pdf-header-footer --print-to-pdf="$folder/print.pdf"
for file in wide.png dark.png phone.png print.pdf; do
    # A blank page of these sizes packs to a tenth of this.
    size=$(stat -c %s "$folder/$file")
    echo "$folder/$file: $size bytes"
    [ "$size" -gt 40000 ]
done
