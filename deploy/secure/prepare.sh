#!/usr/bin/env bash
# Creates the files that deploy/secure/compose.yaml needs on one machine: a certificate authority, one certificate
# for Herald and for the issuer that issuer.sh imitates, and the issuer's private key and key set.
# Usage: deploy/secure/prepare.sh DIRECTORY. Needs openssl and bin/herald. HERALD is the path of another binary.
set -euo pipefail
dir=${1:?usage: deploy/secure/prepare.sh DIRECTORY}
herald=$(realpath "${HERALD:-$(dirname "$0")/../../bin/herald}")
mkdir -p "$dir/public"
cd "$dir"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj '/CN=Herald, to try it out' \
  -keyout ca.key -out ca.pem
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj /CN=localhost \
  -CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:FALSE \
  -addext 'subjectAltName=DNS:localhost,DNS:host.docker.internal,IP:127.0.0.1' -keyout key.pem -out cert.pem
"$herald" token --new-key issuer.key
"$herald" token --key-set --jwt-key-file issuer.key >public/jwks.json
