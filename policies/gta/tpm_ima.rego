# Applies to evidence of the type tpm_ima unless a tenant has default policies of its own.
package verification

default result := {"policy_matched": false}

log := input.evidence.logs[0]

result := {"policy_matched": true} if {
	log.log_type == "ImaLog"
	log.log_status == "replay_success"
	log.ref_value_match_status == "matched"
}
