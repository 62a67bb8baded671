# The policy of `cargo xtask demo --realm soft-virtcca`. It accepts devices that the authority of a demo's run has certified;
# demo_virtcca.rules.json makes the exception for the lifecycle of the software Realm's platform. Neither is enough without
# the other.
package attestation

import rego.v1

output := {
	"allow": allow,
	"vcca.cvm.rim": input.claims.cvm.initial_measurement,
	"vcca.key_binding": input.claims.key_binding,
	"vcca.platform.lifecycle": input.claims.platform.lifecycle.state,
	"vcca.device.root": input.claims.device.root,
}

default allow := false

allow if {
	input.tee == "virtcca"
	input.claims.key_binding == "platform"
	input.claims.device.root == "CN=Redoubt demo root"
}
