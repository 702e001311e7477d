#!/bin/sh
# Puts the models that ship into the folder of models, beside those that were added there, and runs the command.
# Their names carry a checksum: an image with a newer model adds that, and leaves what collections are bound to.
set -eu
if [ -w "$STOCHCON_MODELS" ]; then
    for model in "${STOCHCON_SHIPPED:-/opt/stochcon/models}"/*.onnx; do
        kept=$STOCHCON_MODELS/${model##*/}
        if [ ! -e "$kept" ]; then
            # Renamed once it is whole: another container may read the folder meanwhile, or do the same.
            part=$(mktemp "$STOCHCON_MODELS/.part.XXXXXX")
            cp "$model" "$part"
            chmod 644 "$part"
            mv "$part" "$kept"
        fi
    done
fi
exec "$@"
