package attestation
import rego.v1
f(x) := [g(x)]
g(x) := x + 1
output := f(1)[0]
