# Applies to evidence of the type tpm_boot unless a tenant has default policies of its own.
package verification

default result := {"policy_matched": false}

log := input.evidence.logs[0]

quoted := {value.pcr_index | some value in input.evidence.pcrs.pcr_values}

result := {"policy_matched": true, "custom_data": {"secure_boot": log.secure_boot}} if {
	log.log_type == "TcgEventLog"
	log.log_status == "replay_success"
	log.ref_value_match_status != "unmatched"
	every register in [0, 1, 2, 3, 4, 5, 6, 7] {
		register in quoted
	}
}
