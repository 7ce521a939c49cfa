#!/bin/sh
# Sets up a Vault or OpenBao for Signet in intermediate mode: a PKI mount with a root, the policy, and an AppRole. Read it before
# you run it: where there is a PKI already, only the policy and a way to log in are needed.
#
#   BAO=bao BAO_ADDR=https://vault.example:8200 deploy/vault/setup.sh
#
# The command-line tool takes the address, the token and the CA from its environment (BAO_ADDR, BAO_TOKEN and BAO_CACERT, or
# VAULT_ADDR, VAULT_TOKEN and VAULT_CACERT); the token must be an administrator's. The script prints the role_id, and writes the
# secret_id to SECRET_FILE for Signet to read.
set -eu
umask 077

BAO=${BAO:-bao}                               # or vault
MOUNT=${MOUNT:-pki}
TRUST_DOMAIN=${TRUST_DOMAIN:-cluster.local}
SECRET_FILE=${SECRET_FILE:-signet-secret-id}
here=$(dirname "$0")

# A mount of its own. Its max-lease-ttl bounds everything that it signs, the root too.
"$BAO" secrets enable -path="$MOUNT" -max-lease-ttl=87600h pki
"$BAO" write -field=certificate "$MOUNT/root/generate/internal" \
  common_name="root of $TRUST_DOMAIN" issuer_name=root-1 key_type=ec key_bits=256 ttl=87600h >/dev/null

# Vault makes its revocation lists anew before they end, as nothing else does; without one, no leaf can be revoked.
"$BAO" write "$MOUNT/config/crl" auto_rebuild=true expiry=72h >/dev/null

# Exactly what Signet needs.
sed "s|\"pki/|\"$MOUNT/|" "$here/signet-intermediate.hcl" | "$BAO" policy write signet-intermediate -

# An AppRole whose tokens live for an hour and are renewed for as long as Signet runs.
"$BAO" auth enable approle || echo 'approle is enabled already' >&2
"$BAO" write auth/approle/role/signet token_policies=signet-intermediate token_period=1h secret_id_ttl=0 >/dev/null
"$BAO" write -f -field=secret_id auth/approle/role/signet/secret-id >"$SECRET_FILE"
echo "role_id: $("$BAO" read -field=role_id auth/approle/role/signet/role-id)"
echo "secret_id: in $SECRET_FILE"
