#!/usr/bin/env bash
# Fetches libtorch, once, into .libtorch/ beside this project: the torch wheel and what it needs to load.
#
#   TORCH_VARIANT=cpu    the wheel with the two CUDA libraries that it links at start-up (about 1 GB)
#   TORCH_VARIANT=cuda   the wheel with all of its CUDA libraries (about 6 GB)
#   unset                cuda where `nvidia-smi` finds a GPU, else cpu
#   LIBTORCH=DIR         nothing is fetched: that libtorch is used, if it is of the right version
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.11.0
target=.libtorch
python=${PYTHON:-python3}

fail() { echo "error: $*" >&2; exit 1; }

# The version of the torch in folder $1, without its local part such as +cpu.
version_of() {
    if [ -f "$1/version.py" ]; then sed -n "s/^__version__ = ['\"]\([^'\"+]*\).*/\1/p" "$1/version.py"
    elif [ -f "$1/build-version" ]; then sed 's/+.*//' "$1/build-version"
    fi
}

if [ -n "${LIBTORCH:-}" ]; then
    found=$(version_of "$LIBTORCH")
    [ "$found" = "$version" ] && exit 0
    fail "LIBTORCH=$LIBTORCH is torch ${found:-of an unknown version}; emoflow needs torch $version:" \
         "unset LIBTORCH, or point it at that version"
fi

variant=${TORCH_VARIANT:-}
case "$(uname -s)-$(uname -m)" in
    Linux-*)
        if [ -z "$variant" ]; then
            if nvidia-smi -L >/dev/null 2>&1; then variant=cuda; else variant=cpu; fi
        fi ;;
    Darwin-arm64) variant=macos ;;
    *) fail "no libtorch $version for $(uname -s) $(uname -m)" ;;
esac

[ "$(version_of $target/torch)" = "$version" ] && [ "$(cat $target/variant 2>/dev/null)" = "$variant" ] && exit 0

"$python" -m pip --version >/dev/null 2>&1 || fail "pip is needed to fetch libtorch: install it for $python, or set PYTHON"
case "$variant" in
    cpu)   packages=(--no-deps "torch==$version" "nvidia-cuda-runtime==13.*" "nvidia-cuda-cupti==13.*") ;;
    cuda)  packages=("torch==$version") ;;
    macos) packages=(--no-deps "torch==$version") ;;
    *)     fail "TORCH_VARIANT=$variant: it is cpu or cuda" ;;
esac

echo "fetching libtorch $version ($variant) into $target/" >&2
rm -rf "$target.new"
# Only the libraries are used, so any Python's wheel will do, whatever the Python here is.
"$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
    --target "$target.new" --only-binary=:all: --python-version 3.12 --implementation cp "${packages[@]}" >&2 \
    || fail "pip could not fetch torch $version"
[ "$(version_of "$target.new/torch")" = "$version" ] || fail "what pip fetched is not torch $version"
echo "$variant" > "$target.new/variant"
rm -rf "$target"
mv "$target.new" "$target"
