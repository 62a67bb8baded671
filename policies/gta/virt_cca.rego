# Applies to evidence of the type virt_cca unless a tenant has default policies of its own.
package verification

default result := {"policy_matched": false}

result := {"policy_matched": true, "custom_data": {"realm": input.evidence.vcca_reference}} if {
	input.evidence.vcca_ref_value_match_status == "matched"
	input.evidence.vcca_is_platform
}
