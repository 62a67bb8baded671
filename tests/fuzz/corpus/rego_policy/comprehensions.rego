package attestation
import rego.v1
output := {k: v | some k, v in input.list; v != null}
