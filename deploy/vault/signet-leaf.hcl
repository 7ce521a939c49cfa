# What Signet needs of Vault or OpenBao in leaf mode, and nothing more. For a mount or roles of other names, write those:
# docs/vault.md.

# Sign leaves of workloads, and the CA's own serving certificate, with any issuer of the mount `pki`: when another one becomes
# the default, the one before goes on until all holders of certificates know the new root.
path "pki/issuer/+/sign/signet-mesh" {
  capabilities = ["update"]
}
path "pki/issuer/+/sign/signet-serving" {
  capabilities = ["update"]
}

# Only for revocation (`signet-ca certificate revoke`): revoke what the mount has signed, and make its list anew at once.
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
