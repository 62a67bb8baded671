package attestation
import rego.v1
default r := 1
r := 2 if { input.b } else := 3 if { not input.c }
output := {"allow": r == 3}
