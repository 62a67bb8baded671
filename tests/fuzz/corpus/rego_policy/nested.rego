package attestation
import rego.v1
output := x if { x := [{"a": [[1]]}] }
