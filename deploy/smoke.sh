#!/usr/bin/env bash
# Builds the images and drives docker-compose.yml with them: real containers, with nothing left behind but images.
#
# Needs `docker compose` and an engine: Docker, or podman's service, which DOCKER_HOST names. Variables:
#   BUILD            how to build, "docker build" if not given; it gets -f, -t, --target, --build-arg and the context
#   TRAINER_OPTIONS  more options for building the trainer, such as "--build-arg TORCH_INDEX="
#   STEPS            which of the steps below to do, in order; all if not given
# Where an image of the base, Redis or Prometheus cannot be pulled, it is made of Debian's packages by debootstrap and
# takes that name in the engine, as root: no good for anything but this.
set -euo pipefail
cd "$(dirname "$0")/.."

BUILD=${BUILD:-docker build}
TRAINER_OPTIONS=${TRAINER_OPTIONS:-}
STEPS=${STEPS:-build start secrets_stay_secret containers_are_confined encode_and_search job restart back_up monitor train activate}
PROJECT=stochcon-smoke
WORK=$(mktemp -d)
NUM_IMAGES=1200
NUM_TO_TRAIN_ON=48

say() { printf '%s\n' "$*" >&2; }
checked() { say "  ok: $*"; }
fail() {
    say "FAILED: $*"
    exit 1
}

compose() {
    STOCHCON_IMAGES=$WORK/images timeout 900 docker compose --project-name $PROJECT --project-directory . \
        --file docker-compose.yml --file "$WORK/override.yml" --profile monitoring --profile train "$@"
}

clean_up() {
    local status=$?
    if [ $status -ne 0 ] && [ -f "$WORK/override.yml" ]; then
        compose logs --tail 20 >&2 || true
    fi
    [ -z "${HEALTH_PID:-}" ] || kill "$HEALTH_PID" 2>/dev/null || true
    [ ! -f "$WORK/override.yml" ] || compose down --volumes --remove-orphans --timeout 60 >/dev/null 2>&1 || true
    rm -rf "$WORK"
    exit $status
}
trap clean_up EXIT

# Images

# have IMAGE SUITE PACKAGES COMMANDS ENTRYPOINT: the image is here, pulled, or made of Debian's packages.
have() {
    local image=$1 suite=$2 packages=$3 commands=$4 entrypoint=${5:-}
    if docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1; then
        return
    fi
    say "$image cannot be pulled: made of Debian $suite"
    debootstrap --variant=minbase --include="$packages" "$suite" "$WORK/root" >"$WORK/debootstrap.log" 2>&1 ||
        fail "debootstrap: $(tail -n 3 "$WORK/debootstrap.log")"
    chroot "$WORK/root" sh -ec "$commands; apt-get clean; rm -rf /var/lib/apt/lists/*"
    tar --directory "$WORK/root" --create . |
        docker import ${entrypoint:+--change "ENTRYPOINT $entrypoint"} - "docker.io/$image" >/dev/null
    rm -rf "$WORK/root"
}

image_of() { sed -n "s|^ *image: \($1:.*\)|\1|p" docker-compose.yml; }

base_of() { sed -n 's/^ARG BASE=//p' "$1"; }

build() {
    have "library/$(base_of deploy/service.Dockerfile)" trixie python3,python3-venv,python3-pip,ca-certificates \
        "ln -s python3 /usr/bin/python"
    have "library/$(image_of redis)" trixie redis-server "install --directory --owner 999 --group 999 /data"
    $BUILD -f deploy/service.Dockerfile --target cpu -t stochcon:local .
    # shellcheck disable=SC2086 # Several options.
    $BUILD -f deploy/trainer.Dockerfile $TRAINER_OPTIONS -t stochcon-trainer:local .
    for image in stochcon:local stochcon-trainer:local; do
        checked "$image is built, $(($(docker image inspect --format '{{.Size}}' $image) / 1000000)) MB"
    done
}

# Containers

start() {
    # A folder that only its owner enters, and in it files that every container's user can read.
    mkdir -m 700 "$WORK/secrets"
    for name in api_key redis_password grafana_password; do
        head -c 24 /dev/urandom | base64 | tr -d '\n' >"$WORK/secrets/$name"
        chmod 644 "$WORK/secrets/$name"
    done
    make_images
    {
        printf 'services:\n  api: {ports: !override ["127.0.0.1::8000"]}\n'
        printf '  prometheus: {ports: !override ["127.0.0.1::9090"]}\n'
        printf 'secrets:\n'
        for name in api_key redis_password grafana_password; do
            printf '  %s: {file: "%s"}\n' $name "$WORK/secrets/$name"
        done
    } >"$WORK/override.yml"
    watch_health
    compose up --detach --no-build --scale worker=2 redis api worker >"$WORK/up.log" 2>&1 ||
        fail "docker compose up: $(tail -n 5 "$WORK/up.log")"
    find_api
    [ "$(compose ps --quiet worker | wc -l)" -eq 2 ] || fail "there are not two workers"
    checked "redis, api and two workers run; $(get /readyz | field provider) answers"
}

# Podman has systemd run its health checks: where there is none, they are run from here.
watch_health() {
    [ -z "${HEALTH_PID:-}" ] || return 0
    if [[ $(docker version 2>/dev/null) == *Podman* ]] && [ ! -d /run/systemd/system ]; then
        while sleep 2; do
            for container in $(podman ps --quiet --filter "label=com.docker.compose.project=$PROJECT"); do
                podman healthcheck run "$container" >/dev/null 2>&1 || true
            done
        done &
        HEALTH_PID=$!
    fi
}

find_api() {
    URL=http://$(compose port api 8000)
    for _ in $(seq 120); do
        if curl --silent --fail "$URL/readyz" >/dev/null; then return; fi
        sleep 0.5
    done
    fail "the service is not ready"
}

make_images() {
    mkdir "$WORK/images"
    chmod 777 "$WORK/images"
    docker run --rm --interactive --volume "$WORK/images:/images" --entrypoint python stochcon:local - <<PYTHON
from pathlib import Path

import numpy as np
from PIL import Image

rng = np.random.default_rng(1)
for name, num_images in (("job", $NUM_IMAGES), ("train", $NUM_TO_TRAIN_ON)):
    folder = Path("/images", name)
    folder.mkdir()
    for number in range(num_images):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number:04}.jpg", quality=90)
PYTHON
}

get() { curl --silent --show-error --fail --header "Authorization: Bearer $(cat "$WORK/secrets/api_key")" "$URL$1" "${@:2}"; }

# field NAME...: that of the JSON on standard input.
field() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda value, name: value[int(name) if name.isdigit() else name], sys.argv[1:], json.load(sys.stdin)))' "$@"; }

stochcon() {
    compose exec -T --env STOCHCON_API_KEY="$(cat "$WORK/secrets/api_key")" api stochcon "$@"
}

# What is checked

secrets_stay_secret() {
    local container name described
    for container in $(compose ps --quiet); do
        described=$(docker inspect "$container")
        for name in api_key redis_password; do
            [[ $described != *"$(cat "$WORK/secrets/$name")"* ]] || fail "$name is in the description of $container"
        done
    done
    [ "$(curl --silent --output /dev/null --write-out '%{http_code}' "$URL/items")" = 401 ] ||
        fail "the service answers without the key"
    [[ $(compose exec -T redis redis-cli ping 2>&1) == NOAUTH* ]] || fail "Redis answers without a password"
    checked "secrets are in files alone; the service and Redis refuse who has none"
}

containers_are_confined() {
    for name in api worker redis; do
        [ "$(compose exec -T $name id -u)" -ne 0 ] || fail "$name runs as root"
        ! compose exec -T $name touch /usr/file 2>/dev/null || fail "$name can write to its image"
        compose exec -T $name grep --quiet '^CapEff:[[:space:]]*0*$' /proc/1/status || fail "$name has capabilities"
        compose exec -T $name grep --quiet '^NoNewPrivs:[[:space:]]*1' /proc/1/status || fail "$name can gain privileges"
    done
    ! compose exec -T api touch /images/file 2>/dev/null || fail "the service can write to the images"
    ! compose exec -T worker touch /models/file 2>/dev/null || fail "a worker can write to the models"
    checked "no root, no capabilities, nothing but the volumes can be written"
}

encode_and_search() {
    [ "$(get /encode --form "image=@$WORK/images/job/0000.jpg" | field model num_bits)" = 2048 ] || fail "/encode"
    get /items --form "image=@$WORK/images/job/0000.jpg" --form 'items=[{"id": "first", "label": "smoke"}]' >/dev/null
    [ "$(get /search --form "image=@$WORK/images/job/0000.jpg" | field hits 0 id)" = first ] || fail "/search"
    checked "an image is encoded, stored and found again"
}

job() {
    JOB=$(stochcon jobs submit /images/job --collection smoke | cut -f 1)
    stochcon jobs watch "$JOB" >/dev/null 2>&1 || fail "the job: $(stochcon jobs show "$JOB")"
    [ "$(stochcon jobs show "$JOB" | field added)" = $NUM_IMAGES ] || fail "the job: $(stochcon jobs show "$JOB")"
    checked "the workers did a job of $NUM_IMAGES images that Redis holds"
}

# stop_in_time SERVICE: tell its containers to stop; each ends by itself, with the exit status 0.
stop_in_time() {
    local containers container
    containers=$(compose ps --quiet "$1")
    compose stop "$1" >/dev/null 2>&1
    for container in $containers; do
        [ "$(docker inspect --format '{{.State.ExitCode}}' "$container")" = 0 ] || fail "$1 did not end by itself"
    done
}

restart() {
    JOB=$(stochcon jobs submit /images/job --collection again | cut -f 1)
    stop_in_time worker
    [ "$(stochcon jobs show "$JOB" | field state)" = running ] || fail "the job is not under way: $(stochcon jobs show "$JOB")"
    for name in api redis; do stop_in_time $name; done
    checked "workers, service and Redis ended by themselves while a job was under way"
    compose up --detach --no-build --scale worker=2 redis api worker >"$WORK/up.log" 2>&1 ||
        fail "docker compose up: $(tail -n 5 "$WORK/up.log")"
    find_api
    [ "$(get /search --header 'Content-Type: application/json' --data '{"id": "first"}' | field hits 0 distance)" = 0 ] ||
        fail "the item is gone"
    [ "$(get /collections/smoke | field num_items)" = $NUM_IMAGES ] || fail "items are gone: $(get /collections/smoke)"
    stochcon jobs watch "$JOB" >/dev/null 2>&1 || fail "the job: $(stochcon jobs show "$JOB")"
    [ "$(get /collections/again | field num_items)" = $NUM_IMAGES ] || fail "items are missing: $(get /collections/again)"
    checked "everything is there after the restart, and the job went on to its end"
}

# on_data OPTION... -- COMMAND...: run a command of the image as root, with the volume of the data folder.
on_data() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    docker run --rm --user 0 --volume "${PROJECT}_data:/data" "${options[@]}" --entrypoint "$2" stochcon:local "${@:3}"
}

back_up() {
    mkdir "$WORK/backup"
    stop_in_time api
    on_data --volume "$WORK/backup:/backup" -- cp -a /data/. /backup
    compose start api >/dev/null 2>&1
    find_api
    get /items/first --request DELETE >/dev/null
    cp -a "$WORK/backup" "$WORK/verified"
    docker run --rm --user 0 --volume "$WORK/verified:/data" --entrypoint stochcon stochcon:local verify 2>/dev/null ||
        fail "the backup has faults"
    stop_in_time api
    on_data --volume "$WORK/backup:/backup:ro" -- sh -c 'find /data -mindepth 1 -delete && cp -a /backup/. /data'
    compose start api >/dev/null 2>&1
    find_api
    get /items/first >/dev/null || fail "the item that was deleted after the backup is not back"
    checked "a backup is sound, and brings back what was deleted after it"
}

monitor() {
    local image address answer
    image=$(image_of prom/prometheus)
    have "$image" trixie prometheus,wget "install --directory --owner 65534 --group 65534 /prometheus" \
        '["/usr/bin/prometheus"]'
    compose up --detach --no-build prometheus >"$WORK/up.log" 2>&1 || fail "prometheus: $(tail -n 5 "$WORK/up.log")"
    address=$(compose port prometheus 9090)
    for _ in $(seq 60); do
        answer=$(curl --silent "http://$address/api/v1/query" --data-urlencode 'query=stochcon_ready == 1' || true)
        if [[ $answer == *'"stochcon_ready"'* ]]; then
            checked "Prometheus reads the metrics, with $(curl --silent "http://$address/api/v1/rules" |
                grep --only-matching '"type":"alerting"' | wc -l) alerts loaded"
            return
        fi
        sleep 1
    done
    fail "Prometheus has not read the metrics"
}

train() {
    local run=/runs/smoke
    compose run --rm --no-deps -T trainer train starter --images /images/train --out $run --epochs 1 --batch-size 16 \
        >"$WORK/train.log" 2>&1 || fail "train: $(tail -n 5 "$WORK/train.log")"
    compose run --rm --no-deps -T trainer export $run --out /models/smoke.onnx --name smoke \
        >"$WORK/train.log" 2>&1 || fail "export: $(tail -n 5 "$WORK/train.log")"
    [[ $(stochcon models list) == *smoke* ]] || fail "the service does not list the model: $(stochcon models list)"
    checked "the trainer trained and exported a model, and the service lists it beside those that ship"
}

activate() {
    stochcon models activate smoke --missing leave-out >"$WORK/activate.log" 2>&1 ||
        fail "activate: $(tail -n 5 "$WORK/activate.log")"
    [ "$(get /collections/smoke | field model name)" = smoke ] || fail "the old model is in use: $(get /collections/smoke)"
    [ "$(get /collections/smoke | field num_items)" = $NUM_IMAGES ] || fail "items are missing: $(get /collections/smoke)"
    checked "the workers encoded every collection again with the trained model, and the service went over to it"
}

main() {
    for step in $STEPS; do
        say "$step"
        "$step"
    done
    say "all steps done: $STEPS"
}

main
exit
