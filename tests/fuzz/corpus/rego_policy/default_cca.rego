# The default appraisal policy for Arm CCA. Signatures, freshness and reference values are checked before any policy
# runs; this one adds what an operator may want to change, and repeats the two rules that matter most.
package attestation

import rego.v1

output := {
	"allow": allow,
	"cca.realm.rim": input.claims.realm.initial_measurement,
	"cca.platform.lifecycle": input.claims.platform.lifecycle.state,
	"cca.trust_anchor": input.claims.trust_anchor.name,
}

default allow := false

allow if {
	input.tee == "cca"
	input.claims.platform.lifecycle.state == "secured"
	input.claims.trust_anchor.development == false
}
