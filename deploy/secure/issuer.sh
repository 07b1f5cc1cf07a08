#!/usr/bin/env bash
# Acts as an issuer of tokens: serves DIRECTORY/public/jwks.json over TLS until the process is stopped.
# Usage: deploy/secure/issuer.sh DIRECTORY [PORT]. The default port is 8444.
set -euo pipefail
cd "${1:?usage: deploy/secure/issuer.sh DIRECTORY [PORT]}/public" # this directory contains no private key
exec openssl s_server -quiet -WWW -accept "${2:-8444}" -cert ../cert.pem -key ../key.pem
