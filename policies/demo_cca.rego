# The policy of `cargo xtask demo`. It accepts one development anchor by name, whatever the lifecycle of its platform;
# demo_cca.exceptions.json makes the same exception for the verifier's own rules. Neither is enough without the other.
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
	input.claims.trust_anchor.name == "demo-platform"
}
