#!/usr/bin/env bash
# Stands in for an issuer of tokens: serves the directory's public/jwks.json by TLS until it is ended.
# Usage: deploy/secure/issuer.sh DIRECTORY [PORT], default 8444.
set -euo pipefail
cd "${1:?usage: deploy/secure/issuer.sh DIRECTORY [PORT]}/public" # which has no private key
exec openssl s_server -quiet -WWW -accept "${2:-8444}" -cert ../cert.pem -key ../key.pem
