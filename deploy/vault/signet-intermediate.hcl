# What Signet needs of Vault or OpenBao in intermediate mode, and nothing more. For a mount or an issuer of another name, write
# that name: docs/vault.md.

# Certify issuing CAs with the default issuer of the mount `pki`. With `authority.vault.issuer: NAME` it is
# "pki/issuer/NAME/sign-intermediate" in the place of this.
path "pki/root/sign-intermediate" {
  capabilities = ["update"]
}

# Revoke issuing CAs whose keys are stolen (`authority revoke`, `authority taint`), and make the list of what is revoked anew for
# that. Only revocation needs these: what was asked for without them waits until they are there. They hold for all that the mount
# has signed.
path "pki/revoke" {
  capabilities = ["update"]
}
path "pki/crl/rotate" {
  capabilities = ["read"]
}

# What follows is in the policy `default`, which every token has unless its role says no_default_policy. Without the first of
# these, Signet finds out that it may not sign when it tries to; without the others, it logs in anew in the place of renewing.
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
