# The default appraisal policy for virtCCA. Certificates, signatures, freshness, the platform's lifecycle and software and
# reference values are checked before any policy runs; this one adds what an operator may want to change, and repeats the
# rule that matters most: a Platform Token vouches for the key.
package attestation

import rego.v1

output := {
	"allow": allow,
	"vcca.cvm.rim": input.claims.cvm.initial_measurement,
	"vcca.key_binding": input.claims.key_binding,
	"vcca.platform.verify": platform_verify,
}

default allow := false

allow if {
	input.tee == "virtcca"
	input.claims.key_binding == "platform"
}

# What secGear's reports call the result for the platform's software.
default platform_verify := "Not Verified"

platform_verify := "Verified" if {
	every component in input.claims.platform.software_components {
		component.result == "accepted"
	}
}
