#!/bin/sh
# Lets Signet have leaves signed by a Vault or OpenBao that has a PKI mount with a root already, such as one that setup.sh has made:
# two roles, the policy, and an AppRole. Read it before you run it.
#
#   BAO=bao TRUST_DOMAIN=cluster.local SERVING=signet-ca.signet-system.svc deploy/vault/setup-leaf.sh
#
# It uses the token and the CA that the command-line tool uses (VAULT_TOKEN and VAULT_CACERT, or BAO_TOKEN and BAO_CACERT), which
# must be an administrator's. It prints the role_id, and writes the secret_id to SECRET_FILE for Signet to read.
set -eu
umask 077

BAO=${BAO:-bao}                               # or vault
MOUNT=${MOUNT:-pki}
TRUST_DOMAIN=${TRUST_DOMAIN:-cluster.local}
SERVING=${SERVING:-signet-ca.signet-system.svc}  # the names in `serving` of Signet's configuration, with commas between
SECRET_FILE=${SECRET_FILE:-signet-secret-id}
here=$(dirname "$0")

names=$(echo "$SERVING" | sed 's/,/", "/g')
for role in mesh serving; do
  sed -e "s|//cluster.local/|//$TRUST_DOMAIN/|g" -e "s|\"signet-ca.signet-system.svc\"|\"$names\"|" "$here/role-$role.json" |
    "$BAO" write "$MOUNT/roles/signet-$role" - >/dev/null
done
sed "s|\"pki/|\"$MOUNT/|" "$here/signet-leaf.hcl" | "$BAO" policy write signet-leaf -

"$BAO" auth enable approle || echo 'approle is enabled already' >&2
"$BAO" write auth/approle/role/signet-leaf token_policies=signet-leaf token_period=1h secret_id_ttl=0 >/dev/null
"$BAO" write -f -field=secret_id auth/approle/role/signet-leaf/secret-id >"$SECRET_FILE"
echo "role_id: $("$BAO" read -field=role_id auth/approle/role/signet-leaf/role-id)"
echo "secret_id: in $SECRET_FILE"
