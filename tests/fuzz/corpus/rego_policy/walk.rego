package attestation
import rego.v1
output := [p | walk(input, [p, v]); v == 1]
