# What the verifier asks before tenants' policies see anything of a virtCCA machine: signatures, certificates, freshness,
# typed rules and reference values have been checked, and what is judged beyond them is for the tenants' Rego.
package attestation

output := {"allow": true}
