# What the token of attestation-service or gta-server must be allowed, for a master key `redoubt` in an engine at `transit`.
# `bao policy write redoubt transit-policy.hcl`; with Vault, `vault policy write`.
path "transit/keys/redoubt" {
  capabilities = ["read"]
}
path "transit/encrypt/redoubt" {
  capabilities = ["update"]
}
path "transit/decrypt/redoubt" {
  capabilities = ["update"]
}
path "transit/hmac/redoubt" {
  capabilities = ["update"]
}
