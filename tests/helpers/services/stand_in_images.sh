#!/bin/bash
# Images that stand in, where no registry can be reached, for the two that this project takes from one: the base of the
# Dockerfile and the compose file's PostgreSQL, made of Debian's packages and given the names of the real ones.
#
#   DOCKER_HOST=unix:///run/other.sock tests/helpers/services/stand_in_images.sh
#
# It needs root, debootstrap, and a Docker daemon of its own, since the names would hide the real images of yours.
# The base has the machine's certificates, and the wheels of PIP_FIND_LINKS, so that a CPU-only torch there is found: by
# default the image gets several GB of CUDA's. Neither CUDA nor the variables that ask for GPUs are in it.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/../../.." && pwd)
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

name_of() { # file, pattern: the first image that matches
    sed -nE "s|^ *($2)|\1|p" "$1" | sed 's/^FROM //; s/^image: //' | head -1
}

make_base() {
    local root=$FOLDER/root
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >&2
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    cp "$CERTIFICATES" "$root$CERTIFICATES"
    mkdir "$root/wheels"
    for place in ${PIP_FIND_LINKS:-}; do
        [[ -d $place ]] && cp "$place"/*.whl "$root/wheels/"
    done
    tar --create --directory "$root" . | docker import \
        --change "ENV SSL_CERT_FILE=$CERTIFICATES PIP_CERT=$CERTIFICATES UV_FIND_LINKS=/wheels PIP_FIND_LINKS=/wheels" \
        - "$1"
}

make_postgres() { # its name, the base's
    cat >"$FOLDER/entrypoint" <<'END'
#!/bin/bash
# POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB of a new database, as in the real image
set -euo pipefail
data=/var/lib/postgresql/data
programs=$(echo /usr/lib/postgresql/*/bin)
as_postgres() { runuser --user postgres -- "$@"; }
if [[ ! -s $data/PG_VERSION ]]; then
    install --directory --owner postgres --mode 700 "$data"
    install --owner postgres --mode 600 /dev/null /tmp/password
    echo "$POSTGRES_PASSWORD" >/tmp/password
    as_postgres "$programs/initdb" --pgdata "$data" --username "$POSTGRES_USER" --pwfile /tmp/password \
        --encoding UTF8 --locale C.UTF-8 --auth-local trust --auth-host scram-sha-256
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | as_postgres "$programs/postgres" --single -D "$data" postgres
fi
exec runuser --user postgres -- "$programs/postgres" -D "$data" -c listen_addresses='*'
END
    chmod 755 "$FOLDER/entrypoint"
    cat >"$FOLDER/Dockerfile" <<END
FROM $2
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
COPY entrypoint /entrypoint
ENTRYPOINT ["/entrypoint"]
END
    docker build --network host --tag "$1" "$FOLDER"
}

FOLDER=$(mktemp --directory)
trap 'rm -rf "$FOLDER"' EXIT
base=$(name_of "$ROOT/Dockerfile" "FROM .*")
make_base "$base"
make_postgres "$(name_of "$ROOT/study/cluster/templates/docker-compose.yaml" "image: postgres.*")" "$base"
