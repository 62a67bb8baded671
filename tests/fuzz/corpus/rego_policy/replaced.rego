package attestation
import rego.v1
r := input.tee
output := x if { x := r with input.tee as "b" }
