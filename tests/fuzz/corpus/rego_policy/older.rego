package attestation
allow { input.tee == "cca" }
output = {"allow": allow}
